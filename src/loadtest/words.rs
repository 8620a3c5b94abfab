//! Numbers as people read them. Pure.

/// A whole number in groups of three digits.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of what has this name.
pub fn many(number: usize, name: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {name}{end}", count(number as u64))
}

/// A number of anything a second.
pub fn rate(number: f64) -> String {
    short(number)
}

/// A time in milliseconds, with its unit.
pub fn milliseconds(ms: f64) -> String {
    if ms >= 1000.0 { format!("{} s", short(ms / 1000.0)) } else { format!("{} ms", short(ms)) }
}

/// A figure that there may not be.
pub fn perhaps(figure: Option<f64>, say: fn(f64) -> String) -> String {
    figure.map_or_else(|| "–".to_owned(), say)
}

/// About three digits.
pub fn short(number: f64) -> String {
    if number >= 1000.0 {
        // What lies beyond is none: the cast takes it to the nearest that there is.
        return count(number.round() as u64);
    }
    let digits = match number.abs() {
        0.0 => 0,
        few if few < 1.0 => 3,
        few if few < 10.0 => 2,
        few if few < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number of bytes.
pub fn bytes(number: f64) -> String {
    let (mut left, mut unit) = (number, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if left < 1024.0 {
            break;
        }
        (left, unit) = (left / 1024.0, larger);
    }
    format!("{} {unit}", short(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_tell_something() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 1, 2000].map(|number| many(number, "thread")),
            ["0 threads", "1 thread", "2,000 threads"]
        );
        assert_eq!([0.0, 0.1234, 1.5, 99.96, 41_234.4].map(rate), ["0", "0.123", "1.5", "100", "41,234"]);
        assert_eq!([0.057, 12.34, 12_345.0].map(milliseconds), ["0.057 ms", "12.3 ms", "12.3 s"]);
        assert_eq!([0.0, 1023.0, 23_068_672.0].map(bytes), ["0 B", "1,023 B", "22 MiB"]);
    }
}
