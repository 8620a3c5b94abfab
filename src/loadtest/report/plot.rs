//! Plots as SVG that stands in a page: axes with round numbers, lines, areas, spreads. Must not know what is plotted.

use std::fmt::Write as _;

use super::super::words::short;
use super::escaped;

/// Of a plot that stands beside another, and of one that stands alone.
const HALF: f64 = 544.0;
const WHOLE: f64 = 1104.0;
const HEIGHT: f64 = 264.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;
/// Of more points, none is shown for itself.
const DOTS_MAX: usize = 24;
/// Of more points, none says its value.
const SAID_MAX: usize = 400;

/// One point, and between what others lie for which it stands.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub spread: Option<(f64, f64)>,
}

/// A line.
pub struct Series<'a> {
    /// What it is.
    pub name: &'a str,
    /// 1, 2 and 3 are plain, 4 is what should not be.
    pub colour: u8,
    /// From left to right; there may be gaps.
    pub points: Vec<Option<Point>>,
    /// Whether the area below is filled.
    pub is_filled: bool,
}

/// Where values lie, and which of them are written.
pub struct Axis {
    max: f64,
    ticks: Vec<(f64, String)>,
    label: String,
}

impl Axis {
    /// From nothing to at least `most`, in round steps.
    pub fn round(most: f64, label: &str, say: fn(f64) -> String) -> Self {
        let (step, steps) = steps(most);
        let ticks = (0..=steps).map(|nth| step * f64::from(nth));
        Self {
            max: step * f64::from(steps),
            ticks: ticks.map(|at| (at, say(at))).collect(),
            label: label.to_owned(),
        }
    }

    /// From nothing to exactly `most`, as time does.
    pub fn until(most: f64, label: &str) -> Self {
        let (step, steps) = steps(most);
        let ticks = (0..=steps).map(|nth| step * f64::from(nth)).filter(|at| *at <= most * 1.0001);
        Self { max: most, ticks: ticks.map(|at| (at, short(at))).collect(), label: label.to_owned() }
    }

    /// Percentiles, each nine as far from the one before.
    pub fn nines(most: f64, label: &str) -> Self {
        const KNOWN: [(f64, &str); 8] = [
            (0.0, "0%"),
            (0.5, "50%"),
            (0.9, "90%"),
            (0.99, "99%"),
            (0.999, "99.9%"),
            (0.9999, "99.99%"),
            (0.99999, "99.999%"),
            (0.999_999, "99.9999%"),
        ];
        let max = nines(most).max(1.0);
        let ticks = KNOWN.iter().map(|(at, text)| (nines(*at), (*text).to_owned()));
        Self { max, ticks: ticks.filter(|(at, _)| *at <= max * 1.001).collect(), label: label.to_owned() }
    }

    /// Names, each in the middle of its place.
    pub fn names(names: &[String], label: &str) -> Self {
        let ticks = names.iter().enumerate().map(|(at, name)| (at as f64 + 0.5, name.clone())).collect();
        Self { max: names.len().max(1) as f64, ticks, label: label.to_owned() }
    }

    fn part(&self, value: f64) -> f64 {
        if self.max > 0.0 { (value / self.max).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Where a percentile lies, given as a part of one.
pub fn nines(part: f64) -> f64 {
    -(1.0 - part).max(1e-9).log10()
}

/// Round steps, and how many of them reach so far: three to six.
fn steps(most: f64) -> (f64, u32) {
    if !most.is_finite() || most <= 0.0 {
        return (1.0, 1);
    }
    let rough = most / 5.0;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|factor| factor * magnitude);
    let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    // A handful: the cast loses nothing.
    (step, (most / step * 0.9999).ceil() as u32)
}

/// How a plot stands in its page.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Whether it has the page's whole width.
    pub is_wide: bool,
    /// Where a dashed line stands.
    pub marked: Option<f64>,
}

/// A plot with its title and its legend.
pub fn figure(title: &str, (x, y): (&Axis, &Axis), series: &[Series<'_>], frame: Frame) -> String {
    let class = if frame.is_wide { " class=\"wide\"" } else { "" };
    let mut text = format!("<figure{class}><figcaption><strong>{}</strong>", escaped(title));
    if series.len() > 1 {
        text += "<span class=\"legend\">";
        for one in series {
            let _infallible =
                write!(text, "<span><i class=\"c{}\"></i>{}</span>", one.colour, escaped(one.name));
        }
        text += "</span>";
    }
    let sheet = Sheet { x, y, width: if frame.is_wide { WHOLE } else { HALF } };
    let _infallible = write!(
        text,
        "</figcaption><svg viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        sheet.width,
        escaped(title)
    );
    sheet.axes(&mut text);
    if let Some(at) = frame.marked {
        let at = sheet.across(at);
        let bottom = HEIGHT - BOTTOM;
        let _infallible =
            write!(text, "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
    }
    series.iter().for_each(|one| sheet.line(&mut text, one));
    text + "</svg></figure>\n"
}

/// Where things stand.
struct Sheet<'a> {
    x: &'a Axis,
    y: &'a Axis,
    width: f64,
}

impl Sheet<'_> {
    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.part(value) * (self.width - LEFT - RIGHT)
    }

    fn up(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.part(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// Grid, axes and what is written at them.
    fn axes(&self, text: &mut String) {
        let (right, bottom) = (self.width - RIGHT, HEIGHT - BOTTOM);
        for (at, said) in &self.y.ticks {
            let height = self.up(*at);
            let class = if *at == 0.0 { "axis" } else { "grid" };
            let _infallible = write!(
                text,
                "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                height + 4.0,
                escaped(said)
            );
        }
        for (at, said) in &self.x.ticks {
            let place = self.across(*at);
            let _infallible = write!(
                text,
                "<line class=\"axis\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 18.0,
                escaped(said)
            );
        }
        let _infallible = write!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"12\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {:.1})\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escaped(&self.x.label),
            (TOP + bottom) / 2.0,
            (TOP + bottom) / 2.0,
            escaped(&self.y.label)
        );
    }

    fn line(&self, text: &mut String, series: &Series<'_>) {
        let class = series.colour;
        let bottom = HEIGHT - BOTTOM;
        for part in series.points.split(Option::is_none).filter(|part| !part.is_empty()) {
            let points: Vec<Point> = part.iter().copied().flatten().collect();
            let mut path = String::new();
            for (at, point) in points.iter().enumerate() {
                let command = if at == 0 { 'M' } else { 'L' };
                let _infallible =
                    write!(path, "{command}{:.1} {:.1}", self.across(point.x), self.up(point.y));
            }
            if let (true, [first, .., last]) = (series.is_filled, points.as_slice()) {
                let (from, to) = (self.across(first.x), self.across(last.x));
                let _infallible = write!(
                    text,
                    "<path class=\"area c{class}\" d=\"{path}L{to:.1} {bottom}L{from:.1} {bottom}Z\"/>"
                );
            }
            let _infallible = write!(text, "<path class=\"curve c{class}\" d=\"{path}\"/>");
            self.dots(text, series, &points);
        }
    }

    /// The points themselves, where they are few, and what they say when they are pointed at.
    fn dots(&self, text: &mut String, series: &Series<'_>, points: &[Point]) {
        let class = series.colour;
        for point in points {
            if let Some((low, high)) = point.spread {
                let at = self.across(point.x);
                let _infallible = write!(
                    text,
                    "<line class=\"spread c{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                    self.up(low),
                    self.up(high)
                );
            }
        }
        if points.len() > SAID_MAX {
            return;
        }
        let (shape, radius) = if points.len() <= DOTS_MAX { ("dot", 3.5) } else { ("hit", 5.0) };
        for point in points {
            let _infallible = write!(
                text,
                "<circle class=\"{shape} c{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}: {}</title></circle>",
                self.across(point.x),
                self.up(point.y),
                escaped(series.name),
                short(point.y)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_a_few_round_numbers_and_reach_far_enough() {
        for (most, step, count) in
            [(41_234.0, 10_000.0, 5), (0.9, 0.2, 5), (1.0, 0.2, 5), (7.0, 2.0, 4), (130.0, 50.0, 3)]
        {
            let (found, steps) = steps(most);
            assert!((found - step).abs() < step * 1e-9 && steps == count, "{most}: {found} x {steps}");
            assert!(found * f64::from(steps) >= most * 0.999);
        }
        assert_eq!(steps(0.0), (1.0, 1));
        assert_eq!(steps(f64::NAN), (1.0, 1));
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_gap_parts_a_line_and_names_are_harmless() {
        let point = |x: f64| Some(Point { x, y: 1.0, spread: None });
        let points = vec![point(0.0), point(1.0), None, point(3.0)];
        let series = [Series { name: "<a>", colour: 1, points, is_filled: true }];
        let axes = (Axis::until(3.0, "s"), Axis::round(1.0, "n", short));
        let text = figure("a & b", (&axes.0, &axes.1), &series, Frame { is_wide: false, marked: None });
        assert_eq!(text.matches("class=\"curve").count(), 2);
        assert_eq!(text.matches("class=\"area").count(), 1, "of a lone point there is no area");
        assert!(text.contains("a &amp; b") && !text.contains("<a>"));
    }
}
