use super::*;

const TABLE: &[Metric] = &[
    Metric {
        name: "test_pods",
        kind: Kind::Gauge,
        unit: "pods",
        labels: &["state"],
        help: "Pods by state.",
    },
    Metric {
        name: "test_call_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &["verb", "result"],
        help: "How long a call took.",
    },
    Metric {
        name: "test_repairs_total",
        kind: Kind::Counter,
        unit: "repairs",
        labels: &[],
        help: "Things of ours that had to be put right.",
    },
];

#[test]
fn the_page_is_the_table() {
    insta::assert_snapshot!(page(TABLE), @r"
    | name | type | unit | labels | meaning |
    |---|---|---|---|---|
    | `test_call_seconds` | histogram | seconds | `verb`, `result` | How long a call took. |
    | `test_pods` | gauge | pods | `state` | Pods by state. |
    | `test_repairs_total` | counter | repairs |  | Things of ours that had to be put right. |
    ");
}

#[test]
fn what_is_recorded_is_rendered_with_its_help() {
    let recorder = install(TABLE).unwrap();
    assert!(install(TABLE).is_ok(), "again is fine");
    assert!(recorder.render().contains("test_repairs_total 0"));
    metrics::gauge!("test_pods", "state" => "captured").set(3.0);
    metrics::counter!("test_repairs_total").increment(2);
    metrics::histogram!("test_call_seconds", "verb" => "ADD", "result" => "ok").record(0.0003);
    recorder.fold();
    let text = recorder.render();
    for line in [
        "# HELP test_pods Pods by state.",
        "# TYPE test_pods gauge",
        "test_pods{state=\"captured\"} 3",
        "test_repairs_total 2",
        "# TYPE test_call_seconds histogram",
        "test_call_seconds_bucket{verb=\"ADD\",result=\"ok\",le=\"0.00025\"} 0",
        "test_call_seconds_bucket{verb=\"ADD\",result=\"ok\",le=\"0.0005\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}
