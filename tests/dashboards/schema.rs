//! Whether a value is of a JSON schema, for the words of it that `grafana.schema.json` has. Another word is an error: nothing
//! passes because it was not understood.

use serde_json::{Map, Value};

/// Checks `value` against the definition `name` of a document; what is wrong, with the place.
pub fn check(document: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    one(document, document, value, at, &mut wrong);
    wrong
}

fn one(document: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let schema = schema
        .as_object()
        .unwrap_or_else(|| panic!("{at}: no schema: {schema}"));
    for (word, of) in schema {
        match word.as_str() {
            "$ref" => {
                let name = of.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                let name = name.replace("%3C", "<").replace("%3E", ">");
                one(
                    document,
                    &document["definitions"][name.as_str()],
                    value,
                    at,
                    wrong,
                );
            }
            "type" => {
                let right = match of {
                    Value::Array(all) => all.iter().any(|of| is(of, value)),
                    of => is(of, value),
                };
                if !right {
                    wrong.push(format!("{at}: {value} is no {of}"));
                }
            }
            "const" => {
                if of != value {
                    wrong.push(format!("{at}: {value} is not {of}"));
                }
            }
            "enum" => {
                // 2 and 2.0 are one number.
                let same = |a: &Value| a == value || (a.is_number() && a.as_f64() == value.as_f64());
                if !of.as_array().unwrap().iter().any(same) {
                    wrong.push(format!("{at}: {value} is none of {of}"));
                }
            }
            "anyOf" => {
                let all = of.as_array().unwrap();
                let each: Vec<Vec<String>> = all.iter().map(|of| found(document, of, value, at)).collect();
                if each.iter().all(|wrong| !wrong.is_empty()) {
                    wrong.extend(each.into_iter().min_by_key(Vec::len).unwrap());
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    one(document, of, item, &format!("{at}[{n}]"), wrong);
                }
            }
            "required" => {
                let needed = of.as_array().unwrap().iter().map(|n| n.as_str().unwrap());
                for name in needed.filter(|n| value.is_object() && value.get(n).is_none()) {
                    wrong.push(format!("{at}: {name} is missing"));
                }
            }
            // Below, and by name.
            "properties" | "additionalProperties" | "definitions" => {}
            other => panic!("{at}: the schema says {other}, which is not understood"),
        }
    }
    if let Some(fields) = value.as_object() {
        properties(document, schema, fields, at, wrong);
    }
}

fn found(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    one(document, schema, value, at, &mut wrong);
    wrong
}

fn properties(
    document: &Value,
    schema: &Map<String, Value>,
    fields: &Map<String, Value>,
    at: &str,
    wrong: &mut Vec<String>,
) {
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        if let Some(known) = schema.get("properties").and_then(|p| p.get(name)) {
            one(document, known, value, &at, wrong);
            continue;
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => wrong.push(format!("{at}: no such field")),
            Some(of @ Value::Object(_)) => one(document, of, value, &at, wrong),
            _ => {}
        }
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the schema says type {other}, which is not understood"),
    }
}

#[test]
fn what_is_wrong_is_found_where_it_is() {
    let document = serde_json::json!({
        "$ref": "#/definitions/D",
        "definitions": {"D": {
            "type": "object", "additionalProperties": false, "required": ["id"],
            "properties": {
                "id": {"type": ["number", "null"]},
                "mode": {"enum": ["a", "b"], "type": "string"},
                "parts": {"type": "array", "items": {"anyOf": [{"const": "row", "type": "string"}, {"type": "number"}]}},
            },
        }},
    });
    let found = |value: Value| check(&document, &value, "x");
    assert!(found(serde_json::json!({"id": null, "mode": "a", "parts": ["row", 3]})).is_empty());
    for (value, wrong) in [
        (
            serde_json::json!({"id": "1"}),
            "x.id: \"1\" is no [\"number\",\"null\"]",
        ),
        (serde_json::json!({"mode": "a"}), "x: id is missing"),
        (
            serde_json::json!({"id": 1, "mode": "c"}),
            "x.mode: \"c\" is none of [\"a\",\"b\"]",
        ),
        (
            serde_json::json!({"id": 1, "parts": ["row", "col"]}),
            "x.parts[1]: \"col\" is not \"row\"",
        ),
        (serde_json::json!({"id": 1, "uid": 2}), "x.uid: no such field"),
    ] {
        assert_eq!(found(value), [wrong]);
    }
}
