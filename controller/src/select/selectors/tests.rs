use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{Labels, Selectors};
use crate::select::DATAPLANE_MODE;

const ISTIO: &str = "
- podSelector:
    matchLabels:
      istio.io/dataplane-mode: ambient
- podSelector:
    matchExpressions:
    - {key: istio.io/dataplane-mode, operator: NotIn, values: [none]}
  namespaceSelector:
    matchLabels:
      istio.io/dataplane-mode: ambient
";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

fn selectors(text: &str) -> Selectors {
    text.parse().unwrap()
}

fn refused(text: &str) -> String {
    text.parse::<Selectors>().unwrap_err().to_string()
}

#[test]
fn the_default_is_what_istio_s_chart_writes() {
    assert_eq!(selectors(ISTIO), Selectors::default());
    let keys: Vec<_> = Selectors::default().keys().map(str::to_owned).collect();
    assert_eq!(keys, [DATAPLANE_MODE; 3]);
}

#[test]
fn json_is_the_same() {
    let json = r#"[{"podSelector":{"matchLabels":{"istio.io/dataplane-mode":"ambient"}}},
        {"podSelector":{"matchExpressions":[{"key":"istio.io/dataplane-mode",
        "operator":"NotIn","values":["none"]}]},
        "namespaceSelector":{"matchLabels":{"istio.io/dataplane-mode":"ambient"}}}]"#;
    assert_eq!(selectors(json), Selectors::default());
}

#[test]
fn operators_mean_what_they_mean_in_kubernetes() {
    let one = |operator: &str| {
        selectors(&format!(
            "[{{podSelector: {{matchExpressions: [{{key: k, {operator}}}]}}}}]"
        ))
    };
    let table = [
        ("operator: In, values: [a, b]", [true, false, false]),
        ("operator: NotIn, values: [a, b]", [false, true, true]),
        ("operator: Exists", [true, true, false]),
        ("operator: DoesNotExist", [false, false, true]),
        ("operator: In, values: ['']", [false, false, false]),
    ];
    let pods = [
        labels(&[("k", "b")]),
        labels(&[("k", "c")]),
        labels(&[("x", "a")]),
    ];
    for (operator, expected) in table {
        let one = one(operator);
        let decided = pods
            .each_ref()
            .map(|pod| one.enrol(pod, Some(&labels(&[]))));
        assert_eq!(decided, expected, "{operator}");
    }
}

#[test]
fn one_selector_is_enough_and_all_of_it_is_needed() {
    let two = selectors(
        "[{podSelector: {matchLabels: {a: '1', b: '2'}}, namespaceSelector: {matchLabels: {n: x}}},
          {podSelector: {matchLabels: {c: '3'}}}]",
    );
    let x = labels(&[("n", "x")]);
    assert!(two.enrol(&labels(&[("a", "1"), ("b", "2")]), Some(&x)));
    assert!(!two.enrol(&labels(&[("a", "1")]), Some(&x)));
    assert!(!two.enrol(&labels(&[("a", "1"), ("b", "2")]), Some(&labels(&[]))));
    assert!(two.enrol(&labels(&[("c", "3")]), Some(&labels(&[]))));
}

#[test]
fn of_an_unknown_namespace_nothing_is_said() {
    let not_prod = selectors(
        "[{namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}}]",
    );
    assert!(!not_prod.enrol(&labels(&[]), None));
    assert!(not_prod.enrol(&labels(&[]), Some(&labels(&[]))));
    assert!(
        selectors("[{}]").enrol(&labels(&[]), None),
        "asks for nothing"
    );
}

#[test]
fn namespaces_that_enrol() {
    let table = [
        (ISTIO, [true, false]),
        // Everything, everywhere.
        ("[{}]", [true, true]),
        (
            "[{podSelector: {matchExpressions: [{key: off, operator: DoesNotExist}]}}]",
            [true, true],
        ),
        // Only pods that say so themselves.
        (
            "[{podSelector: {matchLabels: {on: 'yes'}}}]",
            [false, false],
        ),
        // Some pods of such namespaces: which is not known before they are there.
        (
            "[{podSelector: {matchLabels: {on: 'yes'}}, \
              namespaceSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}}]",
            [true, false],
        ),
    ];
    let namespaces = [
        labels(&[(DATAPLANE_MODE, "ambient")]),
        labels(&[("a", "b")]),
    ];
    for (text, expected) in table {
        let selectors = selectors(text);
        let decided = namespaces
            .each_ref()
            .map(|ns| selectors.enrol_namespace(ns));
        assert_eq!(decided, expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let table = [
        ("", "no selectors"),
        ("[]", "no selectors"),
        ("podSelector: {}", "not a list"),
        ("[{pod: {}}]", "unknown field"),
        ("[{podSelector: {matchLabel: {}}}]", "unknown field"),
        (
            "[{podSelector: {matchLabels: {'': x}}}]",
            "selector 1, podSelector.matchLabels: \"\"",
        ),
        (
            "[{}, {namespaceSelector: {matchLabels: {a/b/c: x}}}]",
            "selector 2, namespaceSelector.matchLabels: \"a/b/c\"",
        ),
        (
            "[{podSelector: {matchLabels: {Ex.com/a: x}}}]",
            "is not a label's name",
        ),
        (
            "[{podSelector: {matchLabels: {a: -x}}}]",
            "\"-x\" is not a label's value",
        ),
        (
            "[{podSelector: {matchLabels: {a: '(long)'}}}]",
            "is not a label's value",
        ),
        (
            "[{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]",
            "podSelector.matchExpressions[0]: operator \"in\" is none",
        ),
        (
            "[{podSelector: {matchExpressions: [{key: a, operator: In}]}}]",
            "In needs values",
        ),
        (
            "[{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}]",
            "NotIn needs values",
        ),
        (
            "[{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]",
            "Exists takes no values",
        ),
        (
            "[{podSelector: {matchExpressions: [{key: a}]}}]",
            "missing field",
        ),
        ("- &a {}\n- *a", "not a list"),
    ];
    for (text, expected) in table {
        let refused = refused(text);
        assert!(refused.contains(expected), "{text}: {refused}");
    }
    let many = format!("[{}]", "{},".repeat(65));
    assert!(refused(&many).contains("the list: more than 64"));
    let long = format!(
        "[{{podSelector: {{matchLabels: {{a: {}}}}}}}]",
        "x".repeat(64)
    );
    assert!(refused(&long).contains("is not a label's value"));
    assert!(refused(&"x".repeat(70_000)).contains("longer than"));
}

// The rule as it stood in the code before there were selectors.
fn by_hand(pod: &Labels, namespace: Option<&Labels>) -> bool {
    let mode = |labels: &Labels| labels.get(DATAPLANE_MODE).map(ToString::to_string);
    match mode(pod).as_deref() {
        Some("ambient") => true,
        Some("none") => false,
        _ => namespace.and_then(mode).as_deref() == Some("ambient"),
    }
}

fn modes() -> impl Strategy<Value = Labels> {
    let value = prop_oneof!["ambient", "none", "", "Ambient", "[a-z]{0,3}"];
    proptest::option::of(value).prop_map(|mode| {
        let mode = mode.map(|mode| (DATAPLANE_MODE.into(), Arc::from(mode)));
        BTreeMap::from_iter(mode)
    })
}

proptest! {
    #[test]
    fn the_default_is_the_rule_by_hand(pod in modes(), namespace in proptest::option::of(modes())) {
        let default = Selectors::default();
        prop_assert_eq!(default.enrol(&pod, namespace.as_ref()), by_hand(&pod, namespace.as_ref()));
        if let Some(namespace) = namespace {
            // An ordinary pod, one without labels.
            let ordinary = by_hand(&Labels::new(), Some(&namespace));
            prop_assert_eq!(default.enrol_namespace(&namespace), ordinary);
        }
    }

    #[test]
    fn hostile_text_never_panics(text in ".{0,200}") {
        let _ = text.parse::<Selectors>();
    }
}
