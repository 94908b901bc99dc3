//! The report as one page that needs nothing else: no script, no font, no address.

use std::fmt::Write as _;

use super::{Report, Row, Sheet, Who, figure, plot};

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1120px;padding:0 1rem;color:#1c2530;background:#fff}\
h1{font-size:1.6rem;margin:0 0 .3rem}h2{margin:2.4rem 0 .4rem;font-size:1.25rem;border-bottom:1px solid #d5dbe1}\
h3{margin:1.8rem 0 .3rem;font-size:1.05rem}p{margin:.3rem 0}.dim{color:#5a6673;font-size:.88rem}\
table{border-collapse:collapse;width:100%;font-size:.88rem;margin:.4rem 0 .6rem}\
th,td{padding:.2rem .6rem;border-bottom:1px solid #e8ecf0;text-align:right;white-space:nowrap}\
th{color:#5a6673;font-weight:600}th:first-child,td:first-child{text-align:left;white-space:normal}\
td.peer{padding-left:1.6rem;color:#5a6673}td.ratio{font-weight:600}\
td,th{font-variant-numeric:tabular-nums}.yes{color:#116b3c;font-weight:600}.no{color:#a3341c;font-weight:600}\
svg{max-width:100%;height:auto;display:block}";

/// The page.
pub(super) fn page(report: &Report) -> anyhow::Result<String> {
    let [machine, run] = report.about().map(|text| escaped(&text));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>treehold-bench</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body>\n\
         <h1>Treehold beside its peers</h1>\n<p class=\"dim\">{machine}</p>\n<p class=\"dim\">{run}</p>\n\
         <p>Medians of the runs, with the least and the greatest. Peers worked on the same data in the same run, in turn. \
         Ratios survive a slow or a busy machine; times do not.</p>\n"
    );
    for sheet in &report.sheets {
        let _ = writeln!(out, "<h2>{}, {}</h2>", escaped(sheet.setup), escaped(&sheet.repository));
        goals(&mut out, sheet)?;
        scenarios(&mut out, sheet)?;
    }
    out.push_str("</body></html>\n");
    Ok(out)
}

fn goals(out: &mut String, sheet: &Sheet) -> anyhow::Result<()> {
    let with_goal: Vec<&Row> = sheet.rows.iter().filter(|row| row.goal.is_some()).collect();
    if with_goal.is_empty() {
        return Ok(());
    }
    let reached = with_goal.iter().filter(|row| row.goal.as_ref().is_some_and(|goal| goal.reached)).count();
    let _ = writeln!(out, "<h3>Goals: {reached} of {} reached</h3>", with_goal.len());
    let _ = writeln!(out, "<p class=\"dim\">How many times as good as asked for; right of the line is reached.</p>");
    out.push_str(&plot::goals(&with_goal)?);
    Ok(())
}

fn scenarios(out: &mut String, sheet: &Sheet) -> anyhow::Result<()> {
    let mut rest = &sheet.rows[..];
    while let Some(first) = rest.first() {
        let end = rest.iter().position(|row| row.scenario != first.scenario).unwrap_or(rest.len());
        let (rows, after) = rest.split_at(end);
        let _ = writeln!(out, "<h3>{}</h3>", escaped(first.scenario.title()));
        table(out, rows);
        for missing in sheet.missing.iter().filter(|missing| missing.scenario == first.scenario) {
            let (name, reason) = (escaped(&missing.name), escaped(&missing.reason));
            let _ = writeln!(out, "<p class=\"dim\">{name}: not measured: {reason}</p>");
        }
        for unit in ["ms", "s", "1/s", "MiB"] {
            let same: Vec<&Row> = rows.iter().filter(|row| row.unit == unit).collect();
            if same.len() > 1 {
                out.push_str(&plot::bars(&same, unit)?);
            }
        }
        rest = after;
    }
    Ok(())
}

fn table(out: &mut String, rows: &[Row]) {
    out.push_str(
        "<table><tr><th></th><th>median</th><th>min</th><th>max</th><th>unit</th><th>runs</th><th>goal</th></tr>\n",
    );
    for row in rows {
        let class = match row.who {
            Who::Treehold => "",
            Who::Peer => "peer",
            Who::Ratio => "ratio",
        };
        let [median, min, max] = [row.median, row.min, row.max].map(figure);
        let goal = row.goal.as_ref().map_or_else(String::new, |goal| {
            let class = if goal.reached { "yes" } else { "no" };
            format!("<span class=\"{class}\">{}</span>", escaped(&goal.words()))
        });
        let _ = writeln!(
            out,
            "<tr><td class=\"{class}\">{}</td><td>{median}</td><td>{min}</td><td>{max}</td><td>{}</td><td>{}</td>\
             <td>{goal}</td></tr>",
            escaped(&row.name),
            row.unit,
            row.runs.len()
        );
    }
    out.push_str("</table>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Scenario};

    #[test]
    fn a_page_has_every_row_escaped_and_its_goal() {
        let mut sheet = Sheet::new("here", "a <repository>");
        sheet.begin(Scenario::Read);
        sheet.add("ours & mine", "ms", vec![1.0, 2.0, 4.0]);
        sheet.add_peer("theirs", "ms", vec![3.0, 3.0, 3.0]);
        sheet.add_ratio("ours / theirs", &[1.0], &[3.0]).at_most(1.0);
        sheet.miss("forks", "no <repack>");
        let plan = Plan { s3_latency: std::time::Duration::from_millis(30), ..Plan::new(true, 1) };
        let mut report = Report::new(std::path::Path::new("/bin/true"), &plan, "text").unwrap();
        report.sheets.push(sheet);
        let page = page(&report).unwrap();
        for part in
            ["ours &amp; mine", "a &lt;repository&gt;", "no &lt;repack&gt;", "&lt;= 1, reached", "<svg", "30 ms"]
        {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
        assert!(
            !page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count()
        );
        assert!(report.table().contains("<= 1, reached"));
    }
}
