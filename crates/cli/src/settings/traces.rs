//! Where traces go.

use std::collections::BTreeMap;

use url::Url;

use super::{Origin, Values, check_scheme};
use crate::failure::Failure;
use crate::traces::Collector;

/// What every program with OpenTelemetry reads: the URL of traces alone, and that of a collector of all kinds.
const STANDARD: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Where a collector takes traces.
const PATH: &str = "/v1/traces";

/// The collector that the standard variables name, where nothing else does.
pub(super) fn standard(
    given: &mut BTreeMap<&'static str, (String, Origin)>,
    variable: impl Fn(&str) -> Option<String>,
) {
    if given.contains_key("otlp_endpoint") {
        return;
    }
    let named = STANDARD.iter().find_map(|name| Some((*name, variable(name).filter(|text| !text.is_empty())?)));
    if let Some((name, text)) = named {
        given.insert("otlp_endpoint", (text, Origin::Environment(name.to_owned())));
    }
}

/// `None` = nobody is to have traces.
pub(super) fn collector(values: &mut Values) -> Result<Option<Collector>, Failure> {
    let sample = values.text("trace_sample", || "1".to_owned());
    let sample = match sample.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
        _ => return Err(values.wrong("trace_sample", &format!("must be a number from 0 to 1, not `{sample}`"))),
    };
    let Some((text, _)) = values.given.get("otlp_endpoint").filter(|(text, _)| !text.trim().is_empty()) else {
        return Ok(None);
    };
    check_scheme("otlp_endpoint", text, &["http", "https"])?;
    let wrong = |why: &str| values.wrong("otlp_endpoint", why);
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has a password; send credentials in headers, by OTEL_EXPORTER_OTLP_HEADERS"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must end with its path"));
    }
    if !url.path().ends_with(PATH) {
        url.set_path(&format!("{}{PATH}", url.path().trim_end_matches('/')));
    }
    Ok(Some(Collector { url: url.into(), sample }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&'static str, &str)]) -> Result<Option<Collector>, String> {
        let given = given.iter().map(|(name, text)| (*name, ((*text).to_owned(), Origin::Flag("x".to_owned()))));
        collector(&mut Values { given: given.collect() }).map_err(|failure| failure.message)
    }

    #[test]
    fn nothing_is_traced_unless_somebody_says_where_to() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("otlp_endpoint", "")]), Ok(None));
        assert_eq!(read(&[("trace_sample", "0.5")]), Ok(None));
    }

    #[test]
    fn a_collector_takes_traces_at_its_path() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://c.example/otlp/", "https://c.example/otlp/v1/traces"),
            ("https://c.example/otlp/v1/traces", "https://c.example/otlp/v1/traces"),
        ] {
            let collector = read(&[("otlp_endpoint", text), ("trace_sample", "0.25")]).unwrap().unwrap();
            assert_eq!((collector.url.as_str(), collector.sample), (url, 0.25));
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_secrets() {
        for (given, why) in [
            (("otlp_endpoint", "grpc://c:4317"), "http://"),
            (("otlp_endpoint", "http://u:hunter2@c"), "OTEL_EXPORTER_OTLP_HEADERS"),
            (("otlp_endpoint", "http://c/?key=hunter2"), "path"),
            (("trace_sample", "1.5"), "from 0 to 1"),
            (("trace_sample", "NaN"), "from 0 to 1"),
            (("trace_sample", "all"), "from 0 to 1"),
        ] {
            let message = read(&[given]).unwrap_err();
            assert!(message.contains(why) && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn standard_variables_count_where_nothing_else_is_said() {
        let both = |name: &str| Some(format!("http://{}", name.to_ascii_lowercase()));
        let mut given = BTreeMap::new();
        standard(&mut given, both);
        let from = Origin::Environment(STANDARD[0].to_owned());
        assert_eq!(given["otlp_endpoint"], ("http://otel_exporter_otlp_traces_endpoint".to_owned(), from));
        let flag = ("http://c".to_owned(), Origin::Flag("otlp-endpoint".to_owned()));
        let mut given = BTreeMap::from([("otlp_endpoint", flag.clone())]);
        standard(&mut given, both);
        assert_eq!(given["otlp_endpoint"], flag);
    }
}
