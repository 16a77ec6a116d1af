//! A container runtime's side of CNI: runs a chain of plugins as libcni does.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{command, netns::Netns};

/// A network configuration list and where its plugins are.
#[derive(Clone, Debug)]
pub struct Chain {
    pub version: String,
    pub name: String,
    pub plugins: Vec<Value>,
    /// Directories to look for plugins in.
    pub path: Vec<PathBuf>,
    /// Where results are kept between ADD and DEL.
    pub cache: PathBuf,
}

/// What is attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub container_id: String,
    pub netns: String,
    pub ifname: String,
    /// CNI_ARGS.
    pub args: String,
}

/// What a plugin said when it failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CniError {
    pub plugin: String,
    pub code: u64,
    pub msg: String,
    pub details: String,
}

impl Chain {
    /// What containerd takes of a directory of configurations: the first file,
    /// which must be usable.
    pub fn first_in(directory: &Path, path: Vec<PathBuf>, cache: PathBuf) -> Result<Self, String> {
        let is_one = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("conf" | "conflist" | "json"))
        };
        let entries = fs::read_dir(directory).expect("list the configurations");
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(is_one);
        files.sort();
        let file = files.first().ok_or("no network configuration")?;
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        let mut list: Value =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        if file
            .extension()
            .is_none_or(|extension| extension != "conflist")
        {
            list = json!({
                "name": list["name"], "cniVersion": list["cniVersion"], "plugins": [list],
            });
        }
        let text = |key: &str| list[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            version: text("cniVersion"),
            name: text("name"),
            plugins: list["plugins"].as_array().cloned().unwrap_or_default(),
            path,
            cache,
        })
    }

    /// ADD of every plugin in order; the last one's result.
    pub fn add(&self, node: &Netns, attachment: &Attachment) -> Result<Value, CniError> {
        let mut previous = None;
        for plugin in &self.plugins {
            let result = self.call(node, "ADD", plugin, attachment, previous.as_ref())?;
            previous = Some(result);
        }
        let result = previous.unwrap_or(Value::Null);
        fs::create_dir_all(&self.cache).expect("make the CNI cache");
        fs::write(self.cached(attachment), result.to_string()).expect("keep a CNI result");
        Ok(result)
    }

    /// DEL of every plugin in reverse order, with the result that ADD had.
    pub fn del(&self, node: &Netns, attachment: &Attachment) -> Result<(), CniError> {
        let previous = self.previous(attachment);
        for plugin in self.plugins.iter().rev() {
            self.call(node, "DEL", plugin, attachment, previous.as_ref())?;
        }
        // There is none when ADD failed.
        let _ = fs::remove_file(self.cached(attachment));
        Ok(())
    }

    /// CHECK of every plugin in order.
    pub fn check(&self, node: &Netns, attachment: &Attachment) -> Result<(), CniError> {
        let previous = self.previous(attachment);
        for plugin in &self.plugins {
            self.call(node, "CHECK", plugin, attachment, previous.as_ref())?;
        }
        Ok(())
    }

    fn cached(&self, attachment: &Attachment) -> PathBuf {
        let Attachment {
            container_id,
            ifname,
            ..
        } = attachment;
        self.cache
            .join(format!("{}-{container_id}-{ifname}", self.name))
    }

    fn previous(&self, attachment: &Attachment) -> Option<Value> {
        let text = fs::read_to_string(self.cached(attachment)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn call(
        &self,
        node: &Netns,
        verb: &str,
        plugin: &Value,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Result<Value, CniError> {
        let kind = plugin["type"].as_str().expect("a plugin has a type");
        let version = self.version_of(kind);
        let mut config = plugin.clone();
        config["cniVersion"] = json!(version);
        config["name"] = json!(self.name);
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
            config["prevResult"]["cniVersion"] = json!(version);
        }
        let output = node.enter(|| {
            let mut command = command::bounded(&self.find(kind).display().to_string());
            command
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            command.envs(self.environment(verb, attachment));
            command::feed(command, &config.to_string())
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            json!({"code": 0, "msg": format!("{}: {text}{said}", output.status)})
        });
        Err(CniError {
            plugin: kind.into(),
            code: error["code"].as_u64().unwrap_or_default(),
            msg: error["msg"].as_str().unwrap_or_default().into(),
            details: error["details"].as_str().unwrap_or_default().into(),
        })
    }

    /// Debian's plugins do not speak 1.1.0 yet, whose results are those of 1.0.0:
    /// ours is called as if they did.
    fn version_of(&self, kind: &str) -> &str {
        match self.version.as_str() {
            "1.1.0" if kind != "sluice-cni" => "1.0.0",
            version => version,
        }
    }

    fn environment(&self, verb: &str, attachment: &Attachment) -> BTreeMap<&'static str, String> {
        let path: Vec<String> = self
            .path
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        [
            ("CNI_COMMAND", verb.into()),
            ("CNI_CONTAINERID", attachment.container_id.clone()),
            ("CNI_NETNS", attachment.netns.clone()),
            ("CNI_IFNAME", attachment.ifname.clone()),
            ("CNI_ARGS", attachment.args.clone()),
            ("CNI_PATH", path.join(":")),
        ]
        .into()
    }

    fn find(&self, kind: &str) -> PathBuf {
        self.path
            .iter()
            .map(|dir| dir.join(kind))
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("no CNI plugin {kind} in {:?}", self.path))
    }
}

/// The configuration of Debian's `ptp` with `host-local`, for one node.
pub fn ptp(ranges: &[String], state: &Path) -> Value {
    let ranges: Vec<Value> = ranges
        .iter()
        .map(|subnet| json!([{ "subnet": subnet }]))
        .collect();
    json!({
        "type": "ptp",
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "dataDir": state,
            "ranges": ranges,
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    })
}
