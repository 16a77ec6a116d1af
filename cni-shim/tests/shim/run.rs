//! Running the real program.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const PREV_RESULT: &str = r#"{"cniVersion":"1.0.0",  "zeta":1.500,"interfaces":[{"name":"veth1","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/p"}],"ips":[{"address":"10.0.0.2/24","interface":1},{"address":"fd00::2/64","interface":1}],"dns":{},"alpha":12345678901234567890}"#;

/// A call in the making: sound until something is changed.
pub(crate) struct Call {
    pub(crate) dir: TempDir,
    variables: BTreeMap<&'static str, OsString>,
    conf: BTreeMap<&'static str, String>,
    stdin: Option<Vec<u8>>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
    pub(crate) took: Duration,
}

impl Call {
    pub(crate) fn new(verb: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut call = Self {
            variables: BTreeMap::new(),
            conf: BTreeMap::new(),
            stdin: None,
            dir,
        };
        for (name, value) in [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/p"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ] {
            call = call.set(name, value);
        }
        let path = |name: &str| json!(call.dir.path().join(name)).to_string();
        let (socket, list, notes) = (path("agent.sock"), path("list"), path("notes"));
        call.conf("cniVersion", "\"1.0.0\"")
            .conf("name", "\"net\"")
            .conf("type", "\"sluice-cni\"")
            .conf("socket", &socket)
            .conf("namespacesFile", &list)
            .conf("notesFile", &notes)
            .conf("prevResult", PREV_RESULT)
            .namespace("shop")
    }

    pub(crate) fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    pub(crate) fn unset(mut self, name: &'static str) -> Self {
        self.variables.remove(name);
        self
    }

    pub(crate) fn conf(mut self, key: &'static str, json: &str) -> Self {
        self.conf.insert(key, json.to_owned());
        self
    }

    pub(crate) fn without(mut self, key: &'static str) -> Self {
        self.conf.remove(key);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    pub(crate) fn namespace(self, namespace: &str) -> Self {
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=cart;\
             K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1"
        );
        self.set("CNI_ARGS", arguments)
    }

    /// The agent's list of namespaces.
    pub(crate) fn list(self, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.dir.path().join("list"), text).unwrap();
        self
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub(crate) fn notes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("notes")).unwrap_or_default();
        let parse = |line| serde_json::from_str(line).unwrap();
        text.lines().map(parse).collect()
    }

    /// Names of all files.
    pub(crate) fn files(&self) -> BTreeSet<OsString> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-cni"));
        command
            .env_clear()
            .envs(&self.variables)
            .current_dir(Path::new("/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn input(&self) -> Vec<u8> {
        self.stdin.clone().unwrap_or_else(|| {
            let fields = self.conf.iter();
            let fields: Vec<_> = fields
                .map(|(key, json)| format!("\"{key}\":{json}"))
                .collect();
            format!("{{{}}}", fields.join(",")).into_bytes()
        })
    }

    pub(crate) fn run(&self) -> Ended {
        let begin = Instant::now();
        let mut child = self.command().spawn().unwrap();
        // It may have ended before it read everything.
        let _ = child.stdin.take().unwrap().write_all(&self.input());
        let output = child.wait_with_output().unwrap();
        Ended {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code(),
            took: begin.elapsed(),
        }
    }
}

impl Ended {
    /// The result that was handed on.
    pub(crate) fn result(&self) -> &str {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout.strip_suffix('\n').expect("a line")
    }

    /// Success of a verb that has no result.
    pub(crate) fn silent(&self) {
        assert_eq!(self.status, Some(0), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
    }

    /// The error's code and texts, after looking at its form.
    pub(crate) fn error(&self) -> (u64, String) {
        assert_eq!(self.status, Some(1), "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"]);
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        assert!(!text("cniVersion").is_empty() && !text("msg").is_empty());
        (
            error["code"].as_u64().unwrap(),
            format!("{} ({})", text("msg"), text("details")),
        )
    }
}
