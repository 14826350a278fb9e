//! Which pages of other origins may use a bucket: its CORS rules, and what they say of a request.
//!
//! ```text
//!   OPTIONS, Origin, Access-Control-Request-*  --> the first rule that allows all of it, or none   (preflight)
//!   any request with an Origin                 --> the first rule that allows origin and method    (actual)
//! ```
//! Always true: rules only tell a browser what it may show to its page; who may do what is decided elsewhere.

/// Most rules of a bucket, as in S3.
const MAX_RULES: usize = 100;

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CorsRule {
    /// For its owner.
    pub id: Option<String>,
    /// `https://example.org`, `https://*.example.org`, `*`.
    pub origins: Vec<String>,
    /// Of GET, PUT, POST, DELETE, HEAD.
    pub methods: Vec<String>,
    /// Headers that a page may send; `*` stands for any run of characters.
    pub headers: Vec<String>,
    /// Headers of answers that a page may read.
    pub exposed: Vec<String>,
    /// How long a browser may remember the answer to its question.
    pub max_age_seconds: Option<u32>,
}

/// Why rules are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CorsError {
    /// None, too many, or one without origins or methods.
    #[error(
        "The XML you provided was not well-formed or did not validate against our published schema"
    )]
    Malformed,
    /// S3 has no such method in rules.
    #[error("Found unsupported HTTP method in CORS config. Unsupported method is {0}")]
    Method(String),
    /// Two `*`.
    #[error("{what} \"{value}\" can not have more than one wildcard.")]
    Wildcards {
        /// Which element.
        what: &'static str,
        /// Its text.
        value: String,
    },
    /// `*` in ExposeHeader.
    #[error(
        "ExposeHeader \"{0}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
    )]
    Exposed(String),
    /// An id of over 255 characters.
    #[error("The ID of a rule has at most 255 characters")]
    Id,
}

/// Checks rules before they are kept.
pub fn check(rules: &[CorsRule]) -> Result<(), CorsError> {
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(CorsError::Malformed);
    }
    for rule in rules {
        if rule.origins.is_empty() || rule.methods.is_empty() {
            return Err(CorsError::Malformed);
        }
        if rule.id.as_ref().is_some_and(|id| id.chars().count() > 255) {
            return Err(CorsError::Id);
        }
        let known = ["GET", "PUT", "POST", "DELETE", "HEAD"];
        if let Some(other) = rule.methods.iter().find(|m| !known.contains(&m.as_str())) {
            return Err(CorsError::Method(other.clone()));
        }
        for (what, list) in [
            ("AllowedOrigin", &rule.origins),
            ("AllowedHeader", &rule.headers),
        ] {
            if let Some(value) = list.iter().find(|text| text.matches('*').count() > 1) {
                let value = value.clone();
                return Err(CorsError::Wildcards { what, value });
            }
        }
        if let Some(value) = rule.exposed.iter().find(|text| text.contains('*')) {
            return Err(CorsError::Exposed(value.clone()));
        }
    }
    Ok(())
}

/// The rule for a request of a page.
pub fn actual<'a>(rules: &'a [CorsRule], origin: &str, method: &str) -> Option<&'a CorsRule> {
    rules.iter().find(|rule| rule.allows(origin, method))
}

/// The rule for a browser's question whether a page may send a request with these headers.
pub fn preflight<'a>(
    rules: &'a [CorsRule],
    origin: &str,
    method: &str,
    headers: &[String],
) -> Option<&'a CorsRule> {
    let all_allowed = |rule: &&CorsRule| {
        headers.iter().all(|header| {
            let fits = |pattern: &String| fits(&pattern.to_ascii_lowercase(), header);
            rule.headers.iter().any(fits)
        })
    };
    let mut allowing = rules.iter().filter(|rule| rule.allows(origin, method));
    allowing.find(all_allowed)
}

/// The names in `Access-Control-Request-Headers`, lower-case.
pub fn asked_headers(text: &str) -> Vec<String> {
    text.split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

impl CorsRule {
    fn allows(&self, origin: &str, method: &str) -> bool {
        self.methods.iter().any(|allowed| allowed == method)
            && self.origins.iter().any(|pattern| fits(pattern, origin))
    }

    /// Whether it is for every page, whoever is logged in: then browsers must not send credentials along.
    pub fn is_for_everybody(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }
}

/// Whether a text fits a pattern with at most one `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> CorsRule {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        CorsRule {
            origins: list(origins),
            methods: list(methods),
            headers: list(headers),
            ..CorsRule::default()
        }
    }

    #[test]
    fn the_first_rule_that_allows_it_counts() {
        let rules = [
            rule(&["https://a.org"], &["GET"], &[]),
            rule(
                &["https://*.b.org", "http://b.org"],
                &["GET", "PUT"],
                &["x-amz-*", "Content-Type"],
            ),
            rule(&["*"], &["GET"], &["*"]),
        ];
        let at = |found: Option<&CorsRule>| {
            found.map(|rule| rules.iter().position(|other| other == rule).unwrap())
        };
        assert_eq!(at(actual(&rules, "https://a.org", "GET")), Some(0));
        assert_eq!(at(actual(&rules, "https://x.b.org", "PUT")), Some(1));
        assert_eq!(at(actual(&rules, "https://b.org", "PUT")), None);
        assert_eq!(at(actual(&rules, "null", "GET")), Some(2));
        let ask = |origin, method, headers| {
            at(preflight(&rules, origin, method, &asked_headers(headers)))
        };
        assert_eq!(
            ask("http://b.org", "PUT", "X-Amz-Date, content-type"),
            Some(1)
        );
        assert_eq!(ask("http://b.org", "PUT", "authorization"), None);
        assert_eq!(ask("https://a.org", "GET", ""), Some(0));
        assert_eq!(
            ask("https://a.org", "GET", "range"),
            Some(2),
            "the first one allows no header"
        );
        assert_eq!(ask("https://a.org", "DELETE", ""), None);
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, does) in [
            ("*", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("https://*", "https://x", true),
            ("*.org", "x.com", false),
            ("https://a.org", "https://A.org", false),
        ] {
            assert_eq!(fits(pattern, text), does, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let good = rule(&["*"], &["GET"], &[]);
        assert_eq!(check(std::slice::from_ref(&good)), Ok(()));
        assert_eq!(check(&vec![good.clone(); 100]), Ok(()));
        for bad in [
            vec![],
            vec![good.clone(); 101],
            vec![rule(&[], &["GET"], &[])],
            vec![rule(&["*"], &[], &[])],
        ] {
            assert_eq!(check(&bad), Err(CorsError::Malformed));
        }
        assert!(matches!(
            check(&[rule(&["*"], &["PATCH"], &[])]),
            Err(CorsError::Method(_))
        ));
        assert!(matches!(
            check(&[rule(&["**"], &["GET"], &[])]),
            Err(CorsError::Wildcards { .. })
        ));
        assert!(matches!(
            check(&[rule(&["*"], &["GET"], &["*-*"])]),
            Err(CorsError::Wildcards { .. })
        ));
        let exposed = CorsRule {
            exposed: vec!["x-*".into()],
            ..good
        };
        assert!(matches!(check(&[exposed]), Err(CorsError::Exposed(_))));
    }
}
