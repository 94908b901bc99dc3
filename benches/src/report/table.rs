//! The report for terminals.

use std::fmt::Write as _;

use super::{Report, Row, Sheet, Who, figure};

/// Name, median, least, greatest, unit, runs, goal; scenario by scenario.
pub(super) fn table(report: &Report) -> String {
    let [machine, run] = report.about();
    let mut out = format!("{machine}\n{run}\n");
    for sheet in &report.sheets {
        sheet_table(&mut out, sheet);
    }
    out
}

fn sheet_table(out: &mut String, sheet: &Sheet) {
    let _ = writeln!(out, "\n{}, {}", sheet.setup, sheet.repository);
    let _ = writeln!(out, "{:<68} {:>9} {:>9} {:>9} {:<4} runs  goal", "", "median", "min", "max", "");
    let mut last = None;
    for row in &sheet.rows {
        if last.replace(row.scenario) != Some(row.scenario) {
            let _ = writeln!(out, "{}", row.scenario.title());
        }
        let _ = writeln!(out, "{}", line(row).trim_end());
    }
    for missing in &sheet.missing {
        let _ = writeln!(out, "{}: {}: not measured: {}", missing.scenario.title(), missing.name, missing.reason);
    }
}

fn line(row: &Row) -> String {
    let [median, min, max] = [row.median, row.min, row.max].map(figure);
    let goal = row.goal.as_ref().map(super::Goal::words).unwrap_or_default();
    let indent = if row.who == Who::Peer { "    " } else { "  " };
    let name = format!("{indent}{}", row.name);
    format!("{name:<68} {median:>9} {min:>9} {max:>9} {:<4} {:>4}  {goal}", row.unit, row.runs.len())
}
