//! Variables, paths and patterns of the table, as tests/system/conformance/README.md defines them.

use serde_json::{Map, Value};

/// What does not hold, and where.
pub type Mismatch = String;

/// Fills `${name}` in every string of a value.
pub fn substitute(value: &Value, variables: &Map<String, Value>) -> Result<Value, Mismatch> {
    Ok(match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, item)| Ok((key.clone(), substitute(item, variables)?)))
                .collect::<Result<_, Mismatch>>()?,
        ),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| substitute(item, variables)).collect::<Result<_, _>>()?)
        }
        Value::String(text) => fill(text, variables)?,
        other => other.clone(),
    })
}

fn fill(text: &str, variables: &Map<String, Value>) -> Result<Value, Mismatch> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, end)) = after.split_once('}') else { break };
        let value = variables.get(name).ok_or_else(|| format!("there is no variable {name}"))?;
        if before.is_empty() && end.is_empty() && filled.is_empty() {
            return Ok(value.clone());
        }
        filled += before;
        match value {
            Value::String(part) => filled += part,
            other => filled += &other.to_string(),
        }
        rest = end;
    }
    Ok(Value::String(filled + rest))
}

/// Returns what is at a dotted path.
pub fn at_path<'a>(document: &'a Value, path: &str) -> Result<&'a Value, Mismatch> {
    let mut found = document;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let next = match found {
            Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Object(fields) => fields.get(part),
            _ => None,
        };
        found = next.ok_or_else(|| format!("nothing is at {path} to save"))?;
    }
    Ok(found)
}

/// Says where `actual`, which may be absent, does not match.
pub fn check(pattern: &Value, actual: Option<&Value>, at: &str) -> Result<(), Mismatch> {
    let actual = actual.filter(|value| !value.is_null());
    let differs = || Err(format!("{at} is {}, not {}", short(actual), short(Some(pattern))));
    match pattern {
        Value::Null if actual.is_some() => differs(),
        Value::Null => Ok(()),
        Value::String(text) if text == "*" => {
            if actual.is_none_or(is_empty) {
                return Err(format!("{at} is not there, or empty"));
            }
            Ok(())
        }
        Value::Object(patterns) => {
            if actual.is_some_and(|value| !value.is_object()) {
                return differs();
            }
            for (key, item) in patterns {
                check(item, actual.and_then(|value| value.get(key)), &format!("{at}.{key}"))?;
            }
            Ok(())
        }
        Value::Array(patterns) => {
            let items = match actual {
                None => &[][..],
                Some(Value::Array(items)) => items,
                Some(_) => return differs(),
            };
            if items.len() != patterns.len() {
                return Err(format!("{at} is {}, not a list of {}", short(actual), patterns.len()));
            }
            for (index, (item, value)) in patterns.iter().zip(items).enumerate() {
                check(item, Some(value), &format!("{at}.{index}"))?;
            }
            Ok(())
        }
        Value::Number(number) if number.as_f64() == as_number(actual) => Ok(()),
        Value::String(text) if actual.map_or(Some(""), Value::as_str) == Some(text) => Ok(()),
        Value::Bool(flag) if actual.map_or(Some(false), Value::as_bool) == Some(*flag) => Ok(()),
        _ => differs(),
    }
}

fn as_number(actual: Option<&Value>) -> Option<f64> {
    match actual {
        None => Some(0.0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_f64(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn short(value: Option<&Value>) -> String {
    let text = value.unwrap_or(&Value::Null).to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
