//! The JSON Schema of a desired-state file, for editors.

use super::file::RawFile;

/// What `holdfast schema` prints.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(RawFile).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_the_keys_and_lets_a_tag_be_a_number() {
        let schema = json_schema();
        let service = &schema["$defs"]["RawService"];
        assert_eq!(service["properties"]["tag"]["type"], serde_json::json!(["string", "number"]));
        assert_eq!(service["additionalProperties"], false);
        assert!(service.get("required").is_none(), "{service}");
        assert_eq!(schema["required"], serde_json::json!(["services"]));
        assert_eq!(schema["additionalProperties"], false);
        for key in ["activeColour", "activeColor", "docker", "health", "traffic", "rollout", "drift"] {
            assert!(service["properties"].get(key).is_some(), "{key}");
        }
    }
}
