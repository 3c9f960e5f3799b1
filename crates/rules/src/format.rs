//! `(format ...)`: CLIPS 6.40's own writes past its buffer, so rules get this one.

use crate::value::Value;

/// Largest field width and precision. Wider is an error, not a clamp: silently other output
/// would be worse.
pub const WIDTH_MAX: usize = 1024;

/// Bytes one call may produce.
pub const FORMATTED_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
struct Directive {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Format `arguments` by `control` with the directives of CLIPS: `%d %i %u %o %x %X %f %e %g %c
/// %s`, with flags `-+ 0#`, width and precision, and `%n %r %t %v %%`.
///
/// # Errors
/// A directive that is unknown or too wide, an argument missing, left over or of the wrong type.
pub fn format(control: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = control.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '%' {
            let directive = Directive::parse(&mut rest)?;
            let kind = rest
                .next()
                .ok_or("control string ends within a directive")?;
            out.push_str(&directive.render(kind, &mut arguments)?);
        } else {
            out.push(character);
        }
        if out.len() > FORMATTED_BYTES_MAX {
            return Err(format!("result is longer than {FORMATTED_BYTES_MAX} bytes"));
        }
    }
    match arguments.len() {
        0 => Ok(out),
        n => Err(format!("{n} argument(s) more than directives")),
    }
}

impl Directive {
    fn parse(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Self, String> {
        let mut this = Self::default();
        while let Some(flag) = rest.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => this.left = true,
                '+' => this.plus = true,
                ' ' => this.space = true,
                '0' => this.zero = true,
                _ => this.alternate = true,
            }
        }
        this.width = number(rest)?.unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            this.precision = Some(number(rest)?.unwrap_or(0));
        }
        // Length modifiers of C mean nothing here: integers have 64 bits.
        while rest.next_if(|c| matches!(c, 'l' | 'h')).is_some() {}
        Ok(this)
    }

    fn render<'v>(
        &self,
        kind: char,
        arguments: &mut impl Iterator<Item = &'v Value>,
    ) -> Result<String, String> {
        let fixed = match kind {
            'n' => Some("\n"),
            'r' => Some("\r"),
            't' => Some("\t"),
            'v' => Some("\u{b}"),
            '%' => Some("%"),
            _ => None,
        };
        if let Some(fixed) = fixed {
            return Ok(fixed.to_owned());
        }
        let argument = arguments
            .next()
            .ok_or_else(|| format!("no argument for %{kind}"))?;
        let wrong = || format!("%{kind} can not take a {}", argument.type_name());
        match kind {
            'd' | 'i' => {
                let n = integer(argument).ok_or_else(wrong)?;
                Ok(self.number(n < 0, self.digits(n.unsigned_abs().to_string()), true))
            }
            'u' => {
                let n = integer(argument).ok_or_else(wrong)?;
                Ok(self.number(false, self.digits((n as u64).to_string()), true))
            }
            'o' | 'x' | 'X' => {
                let n = integer(argument).ok_or_else(wrong)?;
                let (digits, prefix) = match kind {
                    'o' => (format!("{n:o}"), "0"),
                    'x' => (format!("{n:x}"), "0x"),
                    _ => (format!("{n:X}"), "0X"),
                };
                let prefix = if self.alternate && n != 0 { prefix } else { "" };
                Ok(self.pad(prefix, self.digits(digits), self.precision.is_none()))
            }
            'f' | 'e' | 'E' | 'g' | 'G' => {
                let x = argument.number().ok_or_else(wrong)?;
                let text = self.float(kind, x.abs());
                Ok(self.number(x.is_sign_negative() && !x.is_nan(), text, x.is_finite()))
            }
            's' => {
                let text = argument.text().ok_or_else(wrong)?;
                let text: String = text
                    .chars()
                    .take(self.precision.unwrap_or(usize::MAX))
                    .collect();
                Ok(self.pad("", text, false))
            }
            'c' => {
                let character = match argument {
                    Value::Integer(n) => u32::try_from(*n).ok().and_then(char::from_u32),
                    other => other.text().and_then(|text| text.chars().next()),
                };
                Ok(self.pad("", character.ok_or_else(wrong)?.to_string(), false))
            }
            _ => Err(format!("unknown directive %{kind}")),
        }
    }

    /// Leading zeros up to the precision.
    fn digits(&self, digits: String) -> String {
        format!(
            "{digits:0>precision$}",
            precision = self.precision.unwrap_or(0)
        )
    }

    fn number(&self, negative: bool, digits: String, may_zero: bool) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        self.pad(sign, digits, may_zero)
    }

    fn pad(&self, sign: &str, text: String, may_zero: bool) -> String {
        let missing = self.width.saturating_sub(sign.len() + text.chars().count());
        if self.left {
            format!("{sign}{text}{}", " ".repeat(missing))
        } else if self.zero && may_zero {
            format!("{sign}{}{text}", "0".repeat(missing))
        } else {
            format!("{}{sign}{text}", " ".repeat(missing))
        }
    }

    /// `x` is not negative.
    fn float(&self, kind: char, x: f64) -> String {
        let precision = self.precision.unwrap_or(6);
        if !x.is_finite() {
            return if x.is_nan() { "nan" } else { "inf" }.to_owned();
        }
        let text = match kind {
            'f' => format!("{x:.precision$}"),
            'e' | 'E' => exponential(x, precision).0,
            _ => {
                let precision = precision.max(1);
                let (text, exponent) = exponential(x, precision - 1);
                let fixed = (-4..precision as i32).contains(&exponent);
                let text = if fixed {
                    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
                    format!("{x:.decimals$}")
                } else {
                    text
                };
                if self.alternate {
                    text
                } else {
                    without_trailing_zeros(&text)
                }
            }
        };
        if kind.is_ascii_uppercase() {
            text.to_uppercase()
        } else {
            text
        }
    }
}

fn number(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        let value = number.unwrap_or(0) * 10 + digit as usize;
        if value > WIDTH_MAX {
            return Err(format!("width or precision over {WIDTH_MAX}"));
        }
        number = Some(value);
    }
    Ok(number)
}

/// A float is cut towards zero, as CLIPS does.
fn integer(value: &Value) -> Option<i64> {
    value.integer().or_else(|| value.number().map(|x| x as i64))
}

/// As C writes it: at least two digits of exponent, with a sign. Second: the exponent.
fn exponential(x: f64, precision: usize) -> (String, i32) {
    let text = format!("{x:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return (text, 0);
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    (format!("{mantissa}e{sign}{:02}", exponent.abs()), exponent)
}

fn without_trailing_zeros(text: &str) -> String {
    let (mantissa, exponent) = match text.find('e') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    if !mantissa.contains('.') {
        return text.to_owned();
    }
    format!(
        "{}{exponent}",
        mantissa.trim_end_matches('0').trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(control: &str, arguments: &[Value]) -> String {
        format(control, arguments).unwrap()
    }

    #[test]
    fn directives_print_what_c_prints() {
        let float = Value::Float;
        assert_eq!(f("%05.2f|", &[float(3.25159)]), "03.25|");
        assert_eq!(
            f("%-6d|%+d|% d", &[42.into(), 42.into(), 42.into()]),
            "42    |+42| 42"
        );
        assert_eq!(
            f(
                "%6.3d|%x|%o|%#x",
                &[7.into(), 255.into(), 8.into(), 255.into()]
            ),
            "   007|ff|10|0xff"
        );
        assert_eq!(
            f(
                "%e|%g|%g|%g",
                &[float(12345.678), float(0.0001), float(1e20), float(2.5)]
            ),
            "1.234568e+04|0.0001|1e+20|2.5"
        );
        assert_eq!(
            f("%g|%G|%#g", &[float(100_000.0), float(1e-7), float(1.0)]),
            "100000|1E-07|1.00000"
        );
        assert_eq!(
            f("%.3s|%5s|%-5s|", &["abcdef", "ab", "ab"].map(Value::symbol)),
            "abc|   ab|ab   |"
        );
        assert_eq!(f("%c%c%n%%", &[Value::string("xyz"), 65.into()]), "xA\n%");
        assert_eq!(f("%d|%f", &[float(-2.9), (-1).into()]), "-2|-1.000000");
        assert_eq!(f("%05d", &[(-42).into()]), "-0042");
        assert_eq!(f("%f", &[float(f64::INFINITY)]), "inf");
    }

    #[test]
    fn what_corrupted_the_heap_is_an_error_or_plain_text() {
        assert!(
            format("%5000d", &[5.into()])
                .unwrap_err()
                .contains("over 1024")
        );
        assert!(format("%99999999999999999999d", &[5.into()]).is_err());
        assert!(format("%.2000000000f", &[5.into()]).is_err());
        assert_eq!(f("%f", &[Value::Float(1e308)]).len(), 309 + 7);
        let many = vec![Value::Integer(1); 100];
        assert!(
            format(&"%1000d".repeat(100), &many)
                .unwrap_err()
                .contains("longer than")
        );
    }

    #[test]
    fn arguments_must_fit_the_directives() {
        assert_eq!(format("%d", &[]).unwrap_err(), "no argument for %d");
        assert_eq!(
            format("x", &[1.into()]).unwrap_err(),
            "1 argument(s) more than directives"
        );
        assert_eq!(
            format("%s", &[1.into()]).unwrap_err(),
            "%s can not take a INTEGER"
        );
        assert_eq!(
            format("%d", &[Value::symbol("a")]).unwrap_err(),
            "%d can not take a SYMBOL"
        );
        assert_eq!(
            format("%p", &[1.into()]).unwrap_err(),
            "unknown directive %p"
        );
        assert!(format("%", &[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_control_string_is_safe(control in ".*", x in proptest::num::f64::ANY, n: i64) {
            let _ = format(&control, &[Value::Float(x), n.into(), Value::symbol("s")]);
        }

        #[test]
        fn any_directive_is_safe(
            control in "%[-+ 0#]{0,3}[0-9]{0,4}(\\.[0-9]{0,4})?[diouxXfeEgGcs]",
            x in proptest::num::f64::ANY,
        ) {
            let _ = format(&control, &[Value::Float(x)]);
            let _ = format(&control, &[Value::symbol("word")]);
        }
    }
}
