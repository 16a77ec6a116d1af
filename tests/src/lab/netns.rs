//! Named network namespaces, and doing things inside them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
};

use super::command::{self, Bounded as _};

/// A network namespace under `/run/netns`. The last handle deletes it.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    deleted: AtomicBool,
    /// Where things are done inside: opened once, so that a namespace whose
    /// name was deleted can still be looked at.
    handle: Mutex<Option<File>>,
}

impl Netns {
    /// Makes a namespace with loopback up and without duplicate address
    /// detection, which would cost seconds per address.
    pub fn create(name: &str) -> Self {
        command::ip(&["netns", "add", name]);
        let path = PathBuf::from("/run/netns").join(name);
        let handle = File::open(&path).expect("open the namespace just made");
        let netns = Self(Arc::new(Inner {
            name: name.into(),
            deleted: AtomicBool::new(false),
            handle: Mutex::new(Some(handle)),
        }));
        netns.sysctl("net.ipv6.conf.all.accept_dad", "0");
        netns.sysctl("net.ipv6.conf.default.accept_dad", "0");
        netns.ip("link set lo up");
        netns
    }

    /// A second name for somebody else's namespace; only the name is ours.
    pub(crate) fn adopt(name: &str, from: &Path) -> Self {
        let path = PathBuf::from("/run/netns").join(name);
        File::create(&path).expect("make a name for a namespace");
        let nothing = None::<&str>;
        mount(Some(from), &path, nothing, MsFlags::MS_BIND, nothing)
            .unwrap_or_else(|error| panic!("name {}: {error}", from.display()));
        let handle = File::open(&path).expect("open the namespace just named");
        Self(Arc::new(Inner {
            name: name.into(),
            deleted: AtomicBool::new(false),
            handle: Mutex::new(Some(handle)),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Path that programs are given for this namespace.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0.name)
    }

    /// Runs `work` on a thread of its own inside the namespace. What it starts
    /// (threads, processes, sockets) stays inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.join();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace. The thread does not keep the
    /// name alive, only the namespace itself.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let here = self.clone();
        thread::spawn(move || {
            here.join();
            drop(here);
            work()
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "called on threads of their own only"
    )]
    fn join(&self) {
        let handle = self.0.handle.lock().expect("namespace handle");
        let file = handle.as_ref().expect("namespace is still there");
        setns(file, CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|error| panic!("cannot enter namespace {}: {error}", self.0.name));
    }

    /// Runs a program inside; its output, whatever its exit status.
    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        self.enter(|| {
            command::bounded(program)
                .args(args)
                .stdin(Stdio::null())
                .run()
        })
    }

    /// Runs a program inside; its standard output. Panics if it fails.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        command::stdout(&format!("{}: {program} {args:?}", self.0.name), &output)
    }

    /// Runs a program inside with `input` on its standard input.
    pub fn feed(&self, program: &str, args: &[&str], input: &str) -> String {
        let output = self.enter(|| {
            let mut command = command::bounded(program);
            command.args(args);
            command::feed(command, input)
        });
        command::stdout(
            &format!("{}: {program} {args:?} <<<\n{input}", self.0.name),
            &output,
        )
    }

    /// One or more `ip` commands, a line each, of one family if it matters.
    pub fn ip(&self, lines: &str) {
        match lines.strip_prefix("-6 ") {
            Some(lines) => self.feed("ip", &["-6", "-batch", "-"], lines),
            None => self.feed("ip", &["-batch", "-"], lines),
        };
    }

    /// Loads an nft script.
    pub fn nft(&self, script: &str) {
        self.feed("nft", &["-f", "-"], script);
    }

    /// Runs a shell script; its standard output.
    pub fn sh(&self, script: &str) -> String {
        self.run("sh", &["-ec", script])
    }

    pub fn sysctl(&self, key: &str, value: &str) {
        let path = sysctl_path(key);
        self.enter(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{}: {key}={value}: {error}", self.0.name));
    }

    pub fn sysctl_get(&self, key: &str) -> String {
        let path = sysctl_path(key);
        self.enter(|| fs::read_to_string(&path))
            .unwrap_or_else(|error| panic!("{}: read {key}: {error}", self.0.name))
            .trim()
            .into()
    }

    /// A command that will run inside, for [`super::process::Process`].
    pub fn spawn_child(&self, command: &mut Command) -> std::io::Result<std::process::Child> {
        self.enter(|| command.spawn())
    }

    /// Deletes the name, and with its last user the namespace.
    pub fn delete(&self) {
        if !self.0.deleted.swap(true, Ordering::SeqCst) {
            self.0.delete();
        }
    }

    /// True when the two are the same namespace.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Inner {
    fn delete(&self) {
        if let Ok(mut handle) = self.handle.lock() {
            handle.take();
        }
        // Also while a test is failing: never panics.
        let _ = command::bounded("ip")
            .args(["netns", "del", &self.name])
            .run_quietly();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.deleted.get_mut() {
            self.delete();
        }
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    // Interface names may hold dots; a slash is taken as it is.
    let relative = if key.contains('/') {
        key.into()
    } else {
        key.replace('.', "/")
    };
    PathBuf::from("/proc/sys").join(relative)
}
