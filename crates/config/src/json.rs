//! JSON as a tree, for files whose errors have to say where they stand.
//!
//! `serde_json::Value` would do but for one thing: of a key that is given twice it keeps the last
//! and drops the first in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::error::ConfigError;

pub(crate) type Object = BTreeMap<String, Json>;

pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

impl Json {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    pub(crate) fn object(&self, at: &str) -> Result<&Object, String> {
        match self {
            Self::Object(object) => Ok(object),
            other => Err(format!("{at}: expected an object, not {other}")),
        }
    }

    pub(crate) fn list(&self, at: &str) -> Result<&[Self], String> {
        match self {
            Self::List(list) => Ok(list),
            other => Err(format!("{at}: expected a list, not {other}")),
        }
    }

    pub(crate) fn text(&self, at: &str) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(format!("{at}: expected a text, not {other}")),
        }
    }

    /// The value if it is a whole number that is not negative.
    pub(crate) fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }
}

/// The value as an error shows it: numbers and texts in full, the rest by its kind.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

/// Reads a file and hands its text to `parse`, whose errors it completes with the path.
pub(crate) fn load<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| parse(&text)).map_err(|problem| ConfigError::file(path, problem))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut object = Object::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format!("key {key:?} is given twice")));
            }
            object.insert(key, map.next_value()?);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value() {
        let json =
            Json::parse("\u{feff}[null, true, 1, -1, 1.5, \"a\\n\", [], {\"k\": 1}]").unwrap();
        let shown: Vec<_> = json.list("").unwrap().iter().map(Json::to_string).collect();
        let expected = ["null", "true", "1", "-1", "1.5", "\"a\\n\"", "a list", "an object"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn syntax_errors_have_line_and_column() {
        let error = Json::parse("{\n  \"a\": 1,\n}").err().unwrap();
        assert!(error.contains("line 3 column 1"), "{error}");
        let error = Json::parse("{} x").err().unwrap();
        assert!(error.contains("trailing") && error.contains("line 1 column 4"), "{error}");
        let error = Json::parse("{\"a\": 1,\n\"a\": 2}").err().unwrap();
        assert!(error.contains("key \"a\" is given twice at line 2"), "{error}");
    }

    #[test]
    fn a_wrong_kind_is_named_with_its_place() {
        let error = Json::Null.object("rules[1]").err().unwrap();
        assert_eq!(error, "rules[1]: expected an object, not null");
        let error = Json::Bool(true).list("ips").err().unwrap();
        assert_eq!(error, "ips: expected a list, not true");
        let error = Json::List(vec![]).text("name").err().unwrap();
        assert_eq!(error, "name: expected a text, not a list");
        assert_eq!(Json::Number(7.into()).unsigned(), Some(7));
        assert_eq!(Json::Number((-7).into()).unsigned(), None);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Path::new("/nonexistent/a.json"), |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/a.json: "), "{error}");
    }
}
