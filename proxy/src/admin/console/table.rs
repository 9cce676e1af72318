//! Rows of the console: what a column is, and how a cell looks in text and in binary.
//!
//! Types are PgBouncer's own (int4, int8, numeric, text), because exporters tell them apart.

use bytes::{BufMut, BytesMut};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::messages::data::DataRow;

use crate::error::{Fault, Report, sqlstate};

/// A column: its name and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int4,
    Int8,
    Numeric,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Int(i64),
}

/// Columns and rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Vec<Cell>>,
}

pub(super) const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

pub(super) const fn int(name: &'static str) -> Column {
    Column { name, kind: Kind::Int4 }
}

pub(super) const fn big(name: &'static str) -> Column {
    Column { name, kind: Kind::Int8 }
}

pub(super) const fn numeric(name: &'static str) -> Column {
    Column { name, kind: Kind::Numeric }
}

impl From<&str> for Cell {
    fn from(s: &str) -> Cell {
        Cell::Text(s.to_owned())
    }
}

impl From<String> for Cell {
    fn from(s: String) -> Cell {
        Cell::Text(s)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Cell {
        Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Cell {
    fn from(n: usize) -> Cell {
        Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Cell {
    fn from(n: u32) -> Cell {
        Cell::Int(n.into())
    }
}

impl From<u16> for Cell {
    fn from(n: u16) -> Cell {
        Cell::Int(n.into())
    }
}

impl From<bool> for Cell {
    fn from(b: bool) -> Cell {
        Cell::Int(b.into())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// What RowDescription says about `columns` when results come in `format`.
pub(super) fn describe(
    columns: &[Column],
    format: Option<&Format>,
) -> Result<Vec<FieldInfo>, Report> {
    let text = Format::UnifiedText;
    let format = format.unwrap_or(&text);
    let field = |(i, column): (usize, &Column)| {
        let (datatype, size) = match column.kind {
            Kind::Text => (Type::TEXT, -1),
            Kind::Int4 => (Type::INT4, 4),
            Kind::Int8 => (Type::INT8, 8),
            Kind::Numeric => (Type::NUMERIC, -1),
        };
        let format = column_format(format, i, columns.len())?;
        Ok(FieldInfo::new(column.name.into(), None, None, datatype, format).with_type_size(size))
    };
    columns.iter().enumerate().map(field).collect()
}

/// pgwire indexes the client's list of formats unchecked, so it is not asked.
fn column_format(format: &Format, i: usize, columns: usize) -> Result<FieldFormat, Report> {
    match format {
        Format::UnifiedText => Ok(FieldFormat::Text),
        Format::UnifiedBinary => Ok(FieldFormat::Binary),
        Format::Individual(codes) => match codes.get(i) {
            Some(code) if codes.len() == columns => Ok(FieldFormat::from(*code)),
            // The words of postgres.c, `exec_bind_message`.
            _ => Err(Report::error(
                Fault::Client,
                sqlstate::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but query has {columns} columns",
                    codes.len()
                ),
            )),
        },
    }
}

/// A row as the client asked for it.
pub(super) fn encode(row: &[Cell], columns: &[Column], fields: &[FieldInfo]) -> DataRow {
    let mut out = BytesMut::new();
    for ((cell, column), field) in row.iter().zip(columns).zip(fields) {
        if matches!(cell, Cell::Null) {
            out.put_i32(-1);
            continue;
        }
        let at = out.len();
        out.put_i32(0);
        match (cell, field.format()) {
            (Cell::Null, _) => {}
            (Cell::Text(s), _) => out.put_slice(s.as_bytes()),
            (Cell::Int(n), FieldFormat::Text) => {
                out.put_slice(clamp(*n, column.kind).to_string().as_bytes());
            }
            (Cell::Int(n), FieldFormat::Binary) => binary(*n, column.kind, &mut out),
        }
        // A cell is far below 2 GiB: names and settings are bounded by the configuration.
        let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
        if let Some(word) = out.get_mut(at..at + 4) {
            word.copy_from_slice(&length.to_be_bytes());
        }
    }
    DataRow::new(out, i16::try_from(row.len()).unwrap_or(i16::MAX))
}

/// An int4 column shows the largest int4 for what is larger, as a gauge would.
fn clamp(n: i64, kind: Kind) -> i64 {
    match kind {
        Kind::Int4 => n.clamp(i32::MIN.into(), i32::MAX.into()),
        Kind::Text | Kind::Int8 | Kind::Numeric => n,
    }
}

fn binary(n: i64, kind: Kind, out: &mut BytesMut) {
    match kind {
        Kind::Int4 => out.put_i32(i32::try_from(clamp(n, kind)).unwrap_or(i32::MAX)),
        Kind::Int8 => out.put_i64(n),
        Kind::Numeric => binary_numeric(n, out),
        Kind::Text => out.put_slice(n.to_string().as_bytes()),
    }
}

/// numeric_send (numeric.c): digits in base 10000, weight of the first, sign, scale.
fn binary_numeric(n: i64, out: &mut BytesMut) {
    let mut digits = [0u16; 5];
    let mut count = 0;
    let mut rest = n.unsigned_abs();
    for digit in &mut digits {
        if rest == 0 {
            break;
        }
        *digit = u16::try_from(rest % 10_000).unwrap_or_default();
        rest /= 10_000;
        count += 1;
    }
    out.put_i16(count);
    out.put_i16((count - 1).max(0));
    out.put_u16(if n < 0 { 0x4000 } else { 0 });
    out.put_i16(0);
    for digit in digits.iter().take(usize::try_from(count).unwrap_or_default()).rev() {
        out.put_u16(*digit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[text("a"), int("b"), big("c"), numeric("d")];

    fn check(row: &[Cell], format: &Format, expect: &[u8]) {
        let fields = describe(COLUMNS, Some(format)).unwrap();
        let encoded = encode(row, COLUMNS, &fields);
        assert_eq!(encoded.data.as_ref(), expect);
        assert_eq!(encoded.field_count, 4);
    }

    #[test]
    fn cells_in_both_formats() {
        let row = [Cell::from("x"), Cell::Int(7), Cell::Int(1 << 40), Cell::Int(123_456_789)];
        check(
            &row,
            &Format::UnifiedText,
            b"\0\0\0\x01x\0\0\0\x017\0\0\0\x0d1099511627776\0\0\0\x09123456789",
        );
        check(
            &row,
            &Format::UnifiedBinary,
            b"\0\0\0\x01x\0\0\0\x04\0\0\0\x07\0\0\0\x08\0\0\x01\0\0\0\0\0\
              \0\0\0\x0e\0\x03\0\x02\0\0\0\0\0\x01\x09\x29\x1a\x85",
        );
        let edge = [Cell::Null, Cell::Int(i64::MAX), Cell::Int(-1), Cell::Int(0)];
        check(
            &edge,
            &Format::Individual(vec![0, 1, 1, 1]),
            b"\xff\xff\xff\xff\0\0\0\x04\x7f\xff\xff\xff\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff\
              \0\0\0\x08\0\0\0\0\0\0\0\0",
        );
    }

    #[test]
    fn too_few_formats_are_refused() {
        let report = describe(COLUMNS, Some(&Format::Individual(vec![1, 1]))).unwrap_err();
        assert_eq!(report.sqlstate, "08P01");
    }
}
