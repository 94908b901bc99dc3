//! Where edits come from, as trailers of the commit's message (git-interpret-trailers(1)).

use treehold_catalog::Origin;

/// Trailers of one commit: they are for people to read.
const TRAILERS_MAX: usize = 100;

/// A message with a trailer for each actor, session and device among the origins, each once, in order, the first hundred.
pub(super) fn with_trailers<'a>(message: &str, origins: impl IntoIterator<Item = &'a Origin>) -> String {
    let mut trailers: Vec<String> = Vec::new();
    for origin in origins {
        let told = [
            ("Treehold-Actor", &origin.actor),
            ("Treehold-Session", &origin.session),
            ("Treehold-Device", &origin.device),
        ];
        for (name, value) in told.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            let trailer = format!("{name}: {value}");
            if trailers.len() < TRAILERS_MAX && !trailers.contains(&trailer) {
                trailers.push(trailer);
            }
        }
    }
    if trailers.is_empty() {
        return message.to_owned();
    }
    let body = message.trim_end_matches('\n');
    let gap = if ends_in_trailers(body) { "\n" } else { "\n\n" };
    format!("{body}{gap}{}", trailers.join("\n"))
}

/// Whether the last paragraph is trailers only, and not the subject.
fn ends_in_trailers(body: &str) -> bool {
    let Some((_, last)) = body.rsplit_once("\n\n") else { return false };
    let is_trailer = |line: &str| {
        line.split_once(':').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    !last.is_empty() && last.lines().all(is_trailer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(actor: &str, session: Option<&str>) -> Origin {
        Origin { device: None, actor: Some(actor.to_owned()), session: session.map(str::to_owned) }
    }

    #[test]
    fn origins_become_trailers_once_each() {
        let origins =
            [origin("agent:a", Some("s1")), Origin::default(), origin("agent:a", Some("s2")), origin("person", None)];
        let told = with_trailers("Subject\n", &origins);
        let expected =
            "Subject\n\nTreehold-Actor: agent:a\nTreehold-Session: s1\nTreehold-Session: s2\nTreehold-Actor: person";
        assert_eq!(told, expected);
        assert_eq!(with_trailers("Subject\n", &[Origin::default()]), "Subject\n");
    }

    #[test]
    fn trailers_join_those_that_are_there() {
        let one = [origin("person", None)];
        assert_eq!(with_trailers("S\n\nFixes: 1", &one), "S\n\nFixes: 1\nTreehold-Actor: person");
        assert_eq!(with_trailers("Fixes: 1", &one), "Fixes: 1\n\nTreehold-Actor: person", "a subject is none");
        assert_eq!(
            with_trailers("S\n\nsome: text\nof a body", &one),
            "S\n\nsome: text\nof a body\n\nTreehold-Actor: person"
        );
    }
}
