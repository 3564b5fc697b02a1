//! `${NAME}` and `${NAME:-default}` in a scalar; `$$` is a dollar. `yaml` calls it for every text scalar.

/// Looks a variable up.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The expanded text; None where there is nothing to expand. The error never holds a variable's value.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<Option<String>, String> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            changed = true;
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inner, after) =
                after.split_once('}').ok_or("\"${\" without its \"}\"; close it, or write \"$$\" for a dollar")?;
            out.push_str(&variable(inner, env)?);
            changed = true;
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(changed.then_some(out))
}

fn variable(inner: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let named = !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty();
    if !named || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(
            "\"${...}\" does not hold a variable's name; write ${NAME} or ${NAME:-default}, and \"$$\" for a dollar"
                .into(),
        );
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("the default of ${{{name}}} holds another variable; they do not nest"));
    }
    match (env(name), default) {
        // As in a shell, `:-` also stands in for an empty value.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("the environment has no {name}; set it, or give a default: ${{{name}:-...}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("kafka".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_dollars() {
        let go = |text| expand(text, &env);
        assert_eq!(go("plain"), Ok(None));
        assert_eq!(go("$5 and $x"), Ok(None));
        assert_eq!(go("${HOST}:9092"), Ok(Some("kafka:9092".into())));
        assert_eq!(go("${HOST:-no}${NONE:-a}${EMPTY:-b}${EMPTY}"), Ok(Some("kafkaab".into())));
        assert_eq!(go("${NONE:-}"), Ok(Some(String::new())));
        assert_eq!(go("a$$b$${HOST}"), Ok(Some("a$b${HOST}".into())));
    }

    #[test]
    fn an_error_names_the_variable() {
        assert!(expand("${NONE}", &env).is_err_and(|e| e.contains("NONE") && e.contains(":-")));
        for bad in ["${HOST", "${}", "${1A}", "${A B}", "${NONE:-${HOST}}"] {
            assert!(expand(bad, &env).is_err(), "{bad}");
        }
    }
}
