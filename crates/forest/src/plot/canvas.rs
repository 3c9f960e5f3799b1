//! An SVG file while things are drawn on it.

use std::fmt::Write as _;

/// Text and lines.
const INK: &str = "#222222";

/// What should be seen last.
const FAINT: &str = "#bbbbbb";

/// Where a plane's axes are.
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const SIDE: f64 = 350.0;

/// Parts of an axis.
const TICKS: usize = 5;

pub(super) struct Canvas {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut canvas = Self {
            width,
            height,
            title: title.to_owned(),
            body: String::new(),
        };
        canvas.words(20.0, 26.0, "class=\"title\"", title);
        canvas
    }

    /// A line below the title.
    pub(super) fn note(&mut self, words: &str) {
        self.words(20.0, 44.0, "class=\"note\"", &short(words, 90));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, words: &str) {
        self.words(x, y, "", words);
    }

    pub(super) fn text_end(&mut self, x: f64, y: f64, words: &str) {
        self.words(x, y, "text-anchor=\"end\"", words);
    }

    pub(super) fn text_middle(&mut self, x: f64, y: f64, words: &str) {
        self.words(x, y, "text-anchor=\"middle\"", words);
    }

    fn words(&mut self, x: f64, y: f64, how: &str, words: &str) {
        let words = escape(words);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>"
        );
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str, shade: f64) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" \
             fill=\"{fill}\" fill-opacity=\"{shade:.2}\"/>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{colour}\"/>"
        );
    }

    /// A line of the legend beside a plane.
    pub(super) fn legend(&mut self, line: usize, colour: &str, words: &str) {
        let y = TOP + 24.0 * line as f64;
        self.rect(LEFT + SIDE + 20.0, y, 14.0, 14.0, colour, 1.0);
        self.text(LEFT + SIDE + 40.0, y + 12.0, words);
    }

    pub(super) fn finish(self) -> String {
        let Self {
            width,
            height,
            title,
            body,
        } = self;
        let title = escape(&title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>\n\
             <style>text {{ font: 13px sans-serif; fill: {INK}; }} .title {{ font-size: 17px; \
             font-weight: bold; }} .note {{ fill: #666666; }}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    }
}

/// Two axes of one range.
pub(super) struct Plane {
    low: f64,
    high: f64,
}

impl Plane {
    /// From 0 to 1.
    pub(super) fn square(canvas: &mut Canvas, x: &str, y: &str) -> Self {
        Self::of(canvas, (0.0, 1.0), x, y)
    }

    pub(super) fn of(canvas: &mut Canvas, (low, high): (f64, f64), x: &str, y: &str) -> Self {
        let plane = Self { low, high };
        for tick in 0..=TICKS {
            let value = low + (high - low) * tick as f64 / TICKS as f64;
            let (across, up) = plane.place((value, value));
            let shown = number(value, high - low);
            canvas.line((across, TOP), (across, TOP + SIDE), "#eeeeee");
            canvas.line((LEFT, up), (LEFT + SIDE, up), "#eeeeee");
            canvas.text_middle(across, TOP + SIDE + 18.0, &shown);
            canvas.text_end(LEFT - 8.0, up + 4.0, &shown);
        }
        canvas.line((LEFT, TOP), (LEFT, TOP + SIDE), INK);
        canvas.line((LEFT, TOP + SIDE), (LEFT + SIDE, TOP + SIDE), INK);
        canvas.text_middle(LEFT + SIDE / 2.0, TOP + SIDE + 40.0, x);
        let (across, up) = (18.0, TOP + SIDE / 2.0);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {across} {up})\"");
        canvas.words(across, up, &turned, y);
        plane
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64| (value - self.low) / (self.high - self.low);
        (LEFT + SIDE * share(x), TOP + SIDE * (1.0 - share(y)))
    }

    /// Where both are the same.
    pub(super) fn diagonal(&self, canvas: &mut Canvas) {
        let from = self.place((self.low, self.low));
        let to = self.place((self.high, self.high));
        canvas.line(from, to, FAINT);
    }

    pub(super) fn curve(&self, canvas: &mut Canvas, points: &[(f64, f64)], colour: &str) {
        let mut path = String::new();
        for &point in points {
            let (x, y) = self.place(point);
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let _ = writeln!(
            canvas.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.trim_end()
        );
    }

    pub(super) fn point(
        &self,
        canvas: &mut Canvas,
        point: (f64, f64),
        size: f64,
        colour: &str,
        shade: f64,
    ) {
        let (x, y) = self.place(point);
        let _ = writeln!(
            canvas.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\" fill=\"{colour}\" \
             fill-opacity=\"{shade:.2}\"/>"
        );
    }
}

/// A number with as many digits as its range needs.
fn number(value: f64, range: f64) -> String {
    let digits = (2.0 - range.abs().max(f64::MIN_POSITIVE).log10().ceil()).clamp(0.0, 6.0) as usize;
    if value.abs() >= 1e6 {
        return format!("{value:.1e}");
    }
    format!("{value:.digits$}")
}

/// At most so many characters of a text.
pub(crate) fn short(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(letters.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no place for these, however they are written.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
