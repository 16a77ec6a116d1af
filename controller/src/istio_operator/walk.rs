//! Follows the rules through a document.

use serde_json::{Map, Value, json};

use super::{
    ConvertError, Converted, Note,
    rules::{Rule, SPEC},
};

/// Where Multus looks for plugins that it calls by name.
const MULTUS_DIR: &str = "/etc/cni/multus/";
/// OpenShift's folder of plugins.
const OPENSHIFT_BIN: &str = "/var/lib/cni/bin";
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

#[derive(Default)]
struct Walk {
    values: Map<String, Value>,
    notes: Vec<Note>,
    refused: Vec<Note>,
}

/// Converts what the document asks for.
pub(super) fn spec(spec: &Map<String, Value>) -> Result<Converted, ConvertError> {
    let mut walk = Walk::default();
    walk.within("spec", spec, SPEC);
    walk.multus(&look(spec, "values.cni"));
    let Walk {
        values,
        mut notes,
        mut refused,
    } = walk;
    if !refused.is_empty() {
        refused.sort();
        return Err(ConvertError::Refused(refused));
    }
    notes.sort();
    Ok(Converted { values, notes })
}

impl Walk {
    fn within(&mut self, path: &str, map: &Map<String, Value>, rules: &[(&str, Rule)]) {
        for (name, value) in map {
            let path = format!("{path}.{name}");
            match rules.iter().find(|(known, _)| known == name) {
                // Null is how a value is unset.
                Some(_) if value.is_null() => {}
                Some((_, rule)) => self.follow(&path, value, *rule),
                None => self.refuse(
                    &path,
                    "there is no such value of Istio's CNI that Sluice knows; leave it out",
                ),
            }
        }
    }

    fn follow(&mut self, path: &str, value: &Value, rule: Rule) {
        match rule {
            Rule::Text(to) if value.is_string() => self.set(to, value),
            Rule::Flag(to) if value.is_boolean() => self.set(to, value),
            Rule::Number(to) if value.is_number() || value.is_string() => self.set(to, value),
            Rule::Texts(to) if all_text(value) => self.set(to, value),
            Rule::Tree(to) => self.set(to, value),
            Rule::Only(wanted, why) => match value {
                Value::Bool(is) if *is == wanted => {}
                Value::Bool(is) => self.refuse(path, &format!("{is}: {why}")),
                _ => self.refuse(path, "is neither true nor false"),
            },
            Rule::Empty(_) if value == "" => {}
            Rule::Empty(why) => self.refuse(path, why),
            Rule::Left(why) => self.note(path, why),
            Rule::Within(rules) => match value {
                Value::Object(map) => self.within(path, map, rules),
                _ => self.refuse(path, "is no mapping"),
            },
            Rule::Apart => self.apart(path, value),
            Rule::Text(_) => self.refuse(path, "is no text"),
            Rule::Flag(_) => self.refuse(path, "is neither true nor false"),
            Rule::Number(_) => self.refuse(path, "is no number"),
            Rule::Texts(_) => self.refuse(path, "is no list of texts"),
        }
    }

    fn apart(&mut self, path: &str, value: &Value) {
        match path.rsplit('.').next().unwrap_or_default() {
            "profile" => self.profile(path, value),
            "meshConfig" => self.mesh_config(path, value),
            "global" => self.global(path, value),
            "redirectMode" => self.redirect_mode(path, value),
            "sidecarInjectorWebhook" => self.injector(path, value),
            // Together: see `multus`.
            _ => {}
        }
    }

    fn profile(&mut self, path: &str, value: &Value) {
        match value.as_str() {
            Some("ambient") => {}
            Some("openshift" | "openshift-ambient") => {
                self.set("global.platform", &json!("openshift"));
            }
            Some(_) => self.note(path, "left to Istio: the chart has no profiles"),
            None => self.refuse(path, "is no text"),
        }
    }

    fn mesh_config(&mut self, path: &str, value: &Value) {
        if let Some(domain) = value.get("trustDomain").filter(|domain| domain.is_string()) {
            self.set("trustDomain", domain);
        }
        self.note(
            path,
            "left to Istio (but for its trustDomain): it is about istiod",
        );
    }

    fn global(&mut self, path: &str, value: &Value) {
        match value.get("platform") {
            None => {}
            Some(platform) if platform.is_string() => self.set("global.platform", platform),
            Some(_) => self.refuse(&format!("{path}.platform"), "is no text"),
        }
        let names = value.as_object().into_iter().flat_map(Map::keys);
        if names.into_iter().any(|name| name != "platform") {
            self.note(
                path,
                "left to Istio (but for its platform): it is about istiod",
            );
        }
    }

    fn redirect_mode(&mut self, path: &str, value: &Value) {
        match value.as_str() {
            Some("iptables") => self.set("cni.ambient.redirectMode", value),
            Some("ebpf") => {
                self.refuse(path, "ebpf: this mode is not built yet; set it to iptables");
            }
            _ => self.refuse(path, "there is no such mode; set it to iptables"),
        }
    }

    fn injector(&mut self, path: &str, value: &Value) {
        let annotated = value
            .get("injectedAnnotations")
            .and_then(|annotations| annotations.get(NETWORKS));
        if annotated.is_some() {
            let path = format!("{path}.injectedAnnotations");
            self.note(
                &path,
                "take k8s.v1.cni.cncf.io/networks out of Istio's own values: there is no such network",
            );
        }
        self.note(path, "left to Istio: it is about the injector of sidecars");
    }

    /// A plugin that Multus calls by itself becomes one of the primary chain.
    fn multus(&mut self, cni: &Map<String, Value>) {
        let text = |name| cni.get(name).and_then(Value::as_str).unwrap_or_default();
        let (dir, file) = (text("cniConfDir"), text("cniConfFileName"));
        let alone = cni.get("chained") == Some(&Value::Bool(false)) || text("provider") == "multus";
        let openshift = self.values.get("global").and_then(|it| it.get("platform"))
            == Some(&json!("openshift"))
            || text("cniBinDir") == OPENSHIFT_BIN;
        if alone && openshift {
            self.set("global.platform", &json!("openshift"));
            for name in ["chained", "provider", "cniConfFileName", "cniConfDir"] {
                if cni.contains_key(name) {
                    self.note(
                        &format!("spec.values.cni.{name}"),
                        "left out: Sluice's list is that of Multus with the shim last, in the runtime's own folder, so that it is run for every pod",
                    );
                }
            }
            return;
        }
        if alone {
            self.refuse(
                "spec.values.cni.chained",
                "a plugin that Multus calls by itself is not told of the pod's link and addresses; leave out chained, provider, cniConfFileName and a cniConfDir of Multus",
            );
        }
        if dir.starts_with(MULTUS_DIR) && !alone {
            self.refuse(
                "spec.values.cni.cniConfDir",
                "only plugins that Multus calls by name are looked for there; give the folder that the container runtime reads",
            );
        } else if !dir.is_empty() {
            self.set("cni.cniConfDir", &json!(dir));
        }
        if !file.is_empty() && !alone {
            self.set("cni.cniConfFileName", &json!(file));
        }
        self.types(cni);
    }

    fn types(&mut self, cni: &Map<String, Value>) {
        for name in ["cniConfDir", "cniConfFileName", "provider"] {
            if cni
                .get(name)
                .is_some_and(|it| !it.is_string() && !it.is_null())
            {
                self.refuse(&format!("spec.values.cni.{name}"), "is no text");
            }
        }
        if cni
            .get("chained")
            .is_some_and(|it| !it.is_boolean() && !it.is_null())
        {
            self.refuse("spec.values.cni.chained", "is neither true nor false");
        }
    }

    fn set(&mut self, path: &str, value: &Value) {
        let mut names = path.split('.').peekable();
        let mut map = &mut self.values;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                map.insert(name.to_owned(), value.clone());
                return;
            }
            let next = map.entry(name).or_insert_with(|| json!({}));
            let Value::Object(inner) = next else { return };
            map = inner;
        }
    }

    fn note(&mut self, path: &str, why: &str) {
        self.notes.push(note(path, why));
    }

    fn refuse(&mut self, path: &str, why: &str) {
        self.refused.push(note(path, why));
    }
}

fn note(path: &str, why: &str) -> Note {
    Note {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn all_text(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|all| all.iter().all(Value::is_string))
}

/// The mapping at `path`; empty if there is none.
fn look(map: &Map<String, Value>, path: &str) -> Map<String, Value> {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| map.get(name));
    let found = names.fold(first, |value, name| value.and_then(|value| value.get(name)));
    found
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}
