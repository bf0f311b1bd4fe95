//! A line plot as SVG: one place on the x axis for each label, a logarithmic y axis.

/// One line.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<f64>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 60.0;

const COLOURS: [&str; 3] = ["#1f6feb", "#8b949e", "#d1242f"];

/// Draws lines over the same labels.
pub(super) fn svg(x: &str, labels: &[&str], series: &[Series]) -> String {
    let all = || series.iter().flat_map(|one| one.values.iter().copied()).filter(|v| *v > 0.0);
    let low = all().fold(f64::INFINITY, f64::min).log10().floor();
    let high = all().fold(f64::NEG_INFINITY, f64::max).log10().ceil().max(low + 1.0);
    let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
    let steps = number(labels.len().saturating_sub(1).max(1));
    let at_x = |index: usize| LEFT + (WIDTH - LEFT - RIGHT) * number(index) / steps;
    let at_y =
        |power: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (power - low) / (high - low);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut power = low;
    while power <= high {
        let y = at_y(power);
        let end = WIDTH - RIGHT;
        line(
            &mut out,
            &format!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#d0d7de\"/>"
            ),
        );
        let value = 10_f64.powf(power);
        line(&mut out, &text(LEFT - 8.0, y + 4.0, "end", &format!("{value}")));
        power += 1.0;
    }
    for (index, label) in labels.iter().enumerate() {
        line(&mut out, &text(at_x(index), HEIGHT - BOTTOM + 18.0, "middle", label));
    }
    line(&mut out, &text(f64::midpoint(LEFT, WIDTH), HEIGHT - 16.0, "middle", x));
    for ((one, colour), place) in series.iter().zip(COLOURS).zip(0_u8..) {
        let points: Vec<String> = one
            .values
            .iter()
            .enumerate()
            .filter(|(_, value)| **value > 0.0)
            .map(|(index, value)| format!("{:.1},{:.1}", at_x(index), at_y(value.log10())))
            .collect();
        let points = points.join(" ");
        line(
            &mut out,
            &format!(
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            ),
        );
        let x = LEFT + 10.0 + 220.0 * f64::from(place);
        line(
            &mut out,
            &format!("<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"4\" fill=\"{colour}\"/>"),
        );
        line(&mut out, &text(x + 18.0, 16.0, "start", &one.name));
    }
    out.push_str("</svg>\n");
    out
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            other => escaped.push(other),
        }
    }
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{escaped}</text>")
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_point() {
        let series = [Series { name: "a < b".to_owned(), values: vec![10.0, 100.0, 0.0] }];
        let svg = svg("x", &["1", "2", "3"], &series);
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 2, "nothing is no value");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_is_drawn_too() {
        assert!(svg("x", &[], &[]).contains("</svg>"));
    }
}
