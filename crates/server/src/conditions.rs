//! Conditional requests (RFC 9110 section 13). An entity tag is the oid of the bytes in double quotes.

use http::{HeaderMap, HeaderName, header};
use treehold_engine::api::Condition;
use treehold_object::ObjectId;

use crate::error::Problem;

/// What `If-Match` or `If-None-Match` names.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    /// Tags that are oids; others can match nothing of ours and are left out.
    These(Vec<ObjectId>),
}

/// The answer to a conditional read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it.
    Send,
    /// 304: the caller has it.
    NotModified,
    /// 412: the caller wanted another.
    Failed,
}

/// `"oid"`
pub(crate) fn etag(oid: &ObjectId) -> String {
    format!("\"{oid}\"")
}

/// Judges `If-Match`, then `If-None-Match`, for a read of something that exists.
pub(crate) fn judge(headers: &HeaderMap, oid: &ObjectId) -> Result<Verdict, Problem> {
    if let Some(Tags::These(oids)) = tags(headers, header::IF_MATCH, "If-Match")?
        && !oids.contains(oid)
    {
        return Ok(Verdict::Failed);
    }
    Ok(match tags(headers, header::IF_NONE_MATCH, "If-None-Match")? {
        Some(Tags::Any) => Verdict::NotModified,
        Some(Tags::These(oids)) if oids.contains(oid) => Verdict::NotModified,
        _ => Verdict::Send,
    })
}

/// Whether `If-Range` lets a range be sent. It compares strongly, and knows no dates since we send none.
pub(crate) fn range_holds(headers: &HeaderMap, oid: &ObjectId) -> bool {
    let mut values = headers.get_all(header::IF_RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => value.as_bytes() == etag(oid).as_bytes(),
        _ => false,
    }
}

/// The condition of a write.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let mut condition = Condition::default();
    match tags(headers, header::IF_MATCH, "If-Match")? {
        Some(Tags::Any) => condition.if_match_any = true,
        Some(Tags::These(oids)) => condition.if_match = Some(oids),
        None => {}
    }
    match tags(headers, header::IF_NONE_MATCH, "If-None-Match")? {
        Some(Tags::Any) => condition.if_none_match_any = true,
        Some(Tags::These(_)) => {
            return Err(Problem::bad_header("If-None-Match", "a write can only ask for `If-None-Match: *`"));
        }
        None => {}
    }
    Ok(condition)
}

/// Refuses a condition where there is no one thing that a tag could name.
pub(crate) fn unconditional(headers: &HeaderMap) -> Result<(), Problem> {
    for (name, shown) in [(header::IF_MATCH, "If-Match"), (header::IF_NONE_MATCH, "If-None-Match")] {
        if headers.contains_key(name) {
            let detail = format!("{shown} has nothing to compare with here; name one path at a time to use it");
            return Err(Problem::bad_header(shown, detail));
        }
    }
    Ok(())
}

/// The one oid that `If-Match` names, where a single expected value is meant.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<ObjectId>, Problem> {
    match tags(headers, header::IF_MATCH, "If-Match")? {
        None => Ok(None),
        Some(Tags::These(oids)) if oids.len() == 1 => Ok(oids.first().copied()),
        Some(_) => Err(Problem::bad_header("If-Match", "If-Match must name exactly one oid here")),
    }
}

fn tags(headers: &HeaderMap, name: HeaderName, shown: &'static str) -> Result<Option<Tags>, Problem> {
    let mut text = Vec::new();
    for (index, value) in headers.get_all(&name).iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(value.as_bytes());
    }
    if !headers.contains_key(&name) {
        return Ok(None);
    }
    parse(&text).map(Some).ok_or_else(|| {
        Problem::bad_header(shown, format!("{shown} must be `*` or a list of tags such as \"oid\", in double quotes"))
    })
}

/// `*`, or a list of `[W/]"opaque"` with commas between (empty elements allowed, as for all lists), at least one tag.
fn parse(text: &[u8]) -> Option<Tags> {
    let text = text.trim_ascii();
    if text == b"*" {
        return Some(Tags::Any);
    }
    let mut oids = Vec::new();
    let mut rest = text;
    let mut count = 0;
    loop {
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            return (count > 0).then_some(Tags::These(oids));
        }
        rest = rest.strip_prefix(b"W/").unwrap_or(rest).strip_prefix(b"\"")?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        let (opaque, after) = (&rest[..end], &rest[end + 1..]);
        if opaque.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return None;
        }
        if opaque.len() == 40
            && let Ok(oid) = ObjectId::from_hex(opaque)
        {
            oids.push(oid);
        }
        count += 1;
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn oid(text: &str) -> ObjectId {
        ObjectId::from_hex(text.as_bytes()).unwrap()
    }

    fn these(text: &str) -> Option<Vec<ObjectId>> {
        match parse(text.as_bytes()) {
            Some(Tags::These(oids)) => Some(oids),
            _ => None,
        }
    }

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn lists_and_weak_tags_are_read() {
        assert_eq!(parse(b" * "), Some(Tags::Any));
        assert_eq!(these(&format!("\"{A}\"")), Some(vec![oid(A)]));
        assert_eq!(these(&format!("W/\"{A}\" ,, \"{B}\",")), Some(vec![oid(A), oid(B)]));
        assert_eq!(these("\"some,thing\""), Some(vec![]));
        assert_eq!(these("\"\""), Some(vec![]));
    }

    #[test]
    fn malformed_lists_are_refused() {
        let unquoted = A.to_owned();
        let open = format!("\"{A}");
        let twice = format!("\"{A}\"\"{B}\"");
        let star = format!("*, \"{A}\"");
        let star_after = format!("\"{A}\", *");
        let lower = format!("w/\"{A}\"");
        for bad in ["", ",", "W/", "\"", "\"a b\"", &unquoted, &open, &twice, &star, &star_after, &lower] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn writes_take_conditions() {
        let given = headers(&[("if-match", format!("\"{A}\"")), ("if-match", format!("\"{B}\""))]);
        assert_eq!(condition(&given).unwrap().if_match, Some(vec![oid(A), oid(B)]));
        assert!(condition(&headers(&[("if-match", "*".into())])).unwrap().if_match_any);
        assert!(condition(&headers(&[("if-none-match", "*".into())])).unwrap().if_none_match_any);
        assert_eq!(condition(&headers(&[("if-match", "\"never\"".into())])).unwrap().if_match, Some(vec![]));
        for (name, value) in [("if-match", "x".to_owned()), ("if-none-match", format!("\"{A}\""))] {
            let problem = condition(&headers(&[(name, value)])).unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.code()), (400, "bad_header"));
        }
        assert_eq!(condition(&HeaderMap::new()).unwrap(), Condition::default());
    }

    #[test]
    fn reads_are_judged_in_order() {
        let verdict = |pairs: &[(&'static str, String)]| judge(&headers(pairs), &oid(A)).unwrap();
        assert_eq!(verdict(&[]), Verdict::Send);
        assert_eq!(verdict(&[("if-none-match", format!("\"{A}\""))]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-none-match", format!("W/\"{A}\""))]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-none-match", "*".into())]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-none-match", format!("\"{B}\""))]), Verdict::Send);
        assert_eq!(verdict(&[("if-match", format!("\"{B}\""))]), Verdict::Failed);
        assert_eq!(verdict(&[("if-match", "*".into())]), Verdict::Send);
        assert_eq!(
            verdict(&[("if-match", format!("\"{B}\"")), ("if-none-match", format!("\"{A}\""))]),
            Verdict::Failed
        );
    }

    #[test]
    fn if_range_compares_strongly() {
        let holds = |value: String| range_holds(&headers(&[("if-range", value)]), &oid(A));
        assert!(range_holds(&HeaderMap::new(), &oid(A)));
        assert!(holds(format!("\"{A}\"")));
        assert!(!holds(format!("W/\"{A}\"")));
        assert!(!holds(format!("\"{B}\"")));
        assert!(!holds("Wed, 21 Oct 2015 07:28:00 GMT".into()));
    }

    #[test]
    fn no_condition_where_none_is_judged() {
        unconditional(&HeaderMap::new()).unwrap();
        for name in ["if-match", "if-none-match"] {
            let problem = unconditional(&headers(&[(name, "*".into())])).unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.code()), (400, "bad_header"));
        }
    }

    #[test]
    fn one_expected_oid() {
        assert_eq!(expected(&headers(&[("if-match", format!("\"{A}\""))])).unwrap(), Some(oid(A)));
        assert_eq!(expected(&HeaderMap::new()).unwrap(), None);
        assert!(expected(&headers(&[("if-match", "*".into())])).is_err());
        assert!(expected(&headers(&[("if-match", format!("\"{A}\", \"{B}\""))])).is_err());
    }
}
