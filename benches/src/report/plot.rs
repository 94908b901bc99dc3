//! Plots as SVG: a bar for each row's median, a line from its least to its greatest run, a dot for each run.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Row, Who, figure};

const WIDTH: u32 = 1_080;
/// Of the names, left of the bars.
const NAMES: i32 = 440;
/// Of the figures, right of the bars.
const FIGURES: i32 = 110;
const LINE: i32 = 24;
const MARGIN: i32 = 10;
const OURS: RGBColor = RGBColor(0x2a, 0x6f, 0xb0);
const PEERS: RGBColor = RGBColor(0x9a, 0xa6, 0xb2);
const GOOD: RGBColor = RGBColor(0x2f, 0x8f, 0x5b);
const BAD: RGBColor = RGBColor(0xc2, 0x4d, 0x2e);
const INK: RGBColor = RGBColor(0x1c, 0x25, 0x30);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Where a value stands between names and figures, pixels.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn x(&self, value: f64) -> i32 {
        let place = |value: f64| if self.logarithmic { value.max(1e-9).log10() } else { value };
        let (low, high) = (place(self.low), place(self.high));
        let share = ((place(value) - low) / (high - low)).clamp(0.0, 1.0);
        let share = if share.is_finite() { share } else { 0.0 };
        NAMES + (share * f64::from(width() - NAMES - FIGURES)) as i32
    }
}

fn width() -> i32 {
    i32::try_from(WIDTH).unwrap_or(i32::MAX)
}

/// The rows of one unit, from zero, or logarithmic where one is more than 50 times another.
pub(super) fn bars(rows: &[&Row], unit: &str) -> anyhow::Result<String> {
    let high = rows.iter().map(|row| row.max).fold(0.0, f64::max);
    let least = rows.iter().map(|row| row.min).filter(|&min| min > 0.0).fold(f64::INFINITY, f64::min);
    let logarithmic = high > 50.0 * least;
    let low = if logarithmic { 10f64.powf(least.log10().floor()) } else { 0.0 };
    let scale = Scale { low, high: if high > low { high } else { low + 1.0 }, logarithmic };
    let mut svg = String::new();
    draw(&mut svg, rows, &scale, unit).map_err(|error| anyhow!("plot: {error}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, rows: &[&Row], scale: &Scale, unit: &str) -> Result<(), Box<dyn std::error::Error>> {
    let lines = i32::try_from(rows.len())?;
    let height = LINE * lines + LINE + 2 * MARGIN;
    let area = SVGBackend::with_string(svg, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    for tick in ticks(scale) {
        let x = scale.x(tick);
        area.draw(&PathElement::new([(x, MARGIN), (x, height - LINE)], PEERS.mix(0.35)))?;
        write(&area, &figure(tick), (x, height - LINE / 2), HPos::Center)?;
    }
    let axis = if scale.logarithmic { format!("{unit}, logarithmic") } else { unit.to_owned() };
    write(&area, &axis, (width() - FIGURES + 14, height - LINE / 2), HPos::Left)?;
    for (row, line) in rows.iter().zip(0..) {
        let y = MARGIN + line * LINE + LINE / 2;
        let colour = if row.who == Who::Peer { PEERS } else { OURS };
        write(&area, &row.name, (NAMES - 10, y), HPos::Right)?;
        let (end, least, greatest) = (scale.x(row.median), scale.x(row.min), scale.x(row.max));
        area.draw(&Rectangle::new([(NAMES, y - 7), (end.max(NAMES + 1), y + 7)], colour.filled()))?;
        area.draw(&PathElement::new([(least, y), (greatest, y)], INK.stroke_width(1)))?;
        for &run in &row.runs {
            area.draw(&Circle::new((scale.x(run), y), 2, INK.filled()))?;
        }
        write(&area, &figure(row.median), (width() - FIGURES + 14, y), HPos::Left)?;
    }
    area.present()?;
    Ok(())
}

/// Round values between the ends: powers of ten, or about five steps.
fn ticks(scale: &Scale) -> Vec<f64> {
    if scale.logarithmic {
        let powers = scale.low.log10().floor() as i32..=scale.high.log10().ceil() as i32;
        let within = |tick: &f64| (scale.low * 0.999..=scale.high * 1.001).contains(tick);
        return powers.map(|power| 10f64.powi(power)).filter(within).collect();
    }
    let rough = (scale.high - scale.low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=6).map(|number| f64::from(number) * step).filter(|tick| *tick <= scale.high).collect()
}

/// How far each goal is from being reached, on a logarithmic axis.
pub(super) fn goals(rows: &[&Row]) -> anyhow::Result<String> {
    let margins: Vec<f64> =
        rows.iter().map(|row| row.goal.as_ref().map_or(f64::NAN, |goal| goal.margin(row.median))).collect();
    let finite = || margins.iter().copied().filter(|margin| margin.is_finite() && *margin > 0.0);
    let low = finite().fold(0.1, f64::min).max(1e-4);
    let high = finite().fold(10.0, f64::max).min(1e4);
    let scale = Scale { low, high, logarithmic: true };
    let mut svg = String::new();
    draw_goals(&mut svg, rows, &margins, &scale).map_err(|error| anyhow!("plot: {error}"))?;
    Ok(svg)
}

fn draw_goals(
    svg: &mut String,
    rows: &[&Row],
    margins: &[f64],
    scale: &Scale,
) -> Result<(), Box<dyn std::error::Error>> {
    let lines = i32::try_from(rows.len())?;
    let height = LINE * lines + LINE + 2 * MARGIN;
    let area = SVGBackend::with_string(svg, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    for tick in ticks(scale) {
        let x = scale.x(tick);
        area.draw(&PathElement::new([(x, MARGIN), (x, height - LINE)], PEERS.mix(0.35)))?;
        write(&area, &format!("{} x", figure(tick)), (x, height - LINE / 2), HPos::Center)?;
    }
    let one = scale.x(1.0);
    area.draw(&PathElement::new([(one, MARGIN), (one, height - LINE)], INK.stroke_width(2)))?;
    for ((row, &margin), line) in rows.iter().zip(margins).zip(0..) {
        let y = MARGIN + line * LINE + LINE / 2;
        let colour = if row.goal.as_ref().is_some_and(|goal| goal.reached) { GOOD } else { BAD };
        write(&area, &row.name, (NAMES - 10, y), HPos::Right)?;
        let end = scale.x(margin);
        area.draw(&Rectangle::new([(one.min(end), y - 4), (one.max(end), y + 4)], colour.filled()))?;
        area.draw(&Circle::new((end, y), 6, colour.filled()))?;
        let words = format!("{} x", if margin.is_finite() { figure(margin) } else { "-".to_owned() });
        write(&area, &words, (width() - FIGURES + 14, y), HPos::Left)?;
    }
    area.present()?;
    Ok(())
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), side: HPos) -> Result<(), Box<dyn std::error::Error>> {
    let style = ("sans-serif", 13).into_text_style(area).color(&INK).pos(Pos::new(side, VPos::Center));
    area.draw_text(text, &style, at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let linear = Scale { low: 0.0, high: 23.0, logarithmic: false };
        assert_eq!(ticks(&linear), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let logarithmic = Scale { low: 0.1, high: 40.0, logarithmic: true };
        assert_eq!(ticks(&logarithmic).len(), 3);
        assert_eq!(ticks(&Scale { low: 0.03, high: 40.0, logarithmic: true }).len(), 3);
        assert_eq!((logarithmic.x(0.1), logarithmic.x(40.0)), (NAMES, width() - FIGURES));
    }
}
