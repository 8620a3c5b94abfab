//! A time as it is bound to a statement. Chrono's own formatting is a tenth of what a row costs on SQLite; this is the same
//! text, digit by digit. Must not know which table it goes to.

use chrono::NaiveDateTime;
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamp;

/// A time in UTC, for years of four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression)]
#[diesel(sql_type = Timestamp)]
pub struct Stamp(pub NaiveDateTime);

impl Stamp {
    /// As Diesel writes a `NaiveDateTime`: `2026-11-22 21:45:40`, with 3 or 6 digits of the second's fraction if it has any.
    #[cfg(any(feature = "sqlite", test))]
    fn text(self) -> String {
        use chrono::{Datelike as _, Timelike as _};
        let (date, time, micros) = (self.0.date(), self.0.time(), self.0.nanosecond() / 1_000);
        let mut text = String::with_capacity(26);
        push(&mut text, 4, date.year().unsigned_abs());
        for (mark, value) in [
            ('-', date.month()),
            ('-', date.day()),
            (' ', time.hour()),
            (':', time.minute()),
            (':', time.second()),
        ] {
            text.push(mark);
            push(&mut text, 2, value);
        }
        if micros > 0 {
            text.push('.');
            let (width, value) = if micros.is_multiple_of(1_000) { (3, micros / 1_000) } else { (6, micros) };
            push(&mut text, width, value);
        }
        text
    }
}

#[cfg(any(feature = "sqlite", test))]
fn push(text: &mut String, width: u32, value: u32) {
    for place in (0..width).rev() {
        text.extend(char::from_digit(value / 10_u32.pow(place) % 10, 10));
    }
}

#[cfg(feature = "sqlite")]
impl ToSql<Timestamp, diesel::sqlite::Sqlite> for Stamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, diesel::sqlite::Sqlite>) -> serialize::Result {
        out.set_value(self.text());
        Ok(serialize::IsNull::No)
    }
}

#[cfg(feature = "postgres")]
impl ToSql<Timestamp, diesel::pg::Pg> for Stamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, diesel::pg::Pg>) -> serialize::Result {
        ToSql::<Timestamp, diesel::pg::Pg>::to_sql(&self.0, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_diesel() {
        for micros in
            [0, 1, 999_999, 1_000_000, 1_700_000_000_120_000, 1_700_000_000_123_456, 951_782_400_000_000]
        {
            let at = chrono::DateTime::from_timestamp_micros(micros).unwrap().naive_utc();
            assert_eq!(Stamp(at).text(), at.format("%F %T%.f").to_string());
        }
    }
}
