//! A network namespace for a test, and the tools that write rules in it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        resource::{Usage, UsageWho, getrusage},
        time::TimeValLike as _,
    },
};

/// One tool at a time: RUSAGE_CHILDREN knows no single child.
static TOOL: Mutex<()> = Mutex::new(());

/// Runs `test` on a thread in a new network namespace, which ends with the thread and its sockets.
pub fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root");
        test()
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// CPU time, user and system.
pub fn cpu(of: UsageWho) -> Duration {
    let cpu = |u: Usage| u.user_time().num_microseconds() + u.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(cpu(getrusage(of).unwrap())).unwrap())
}

/// Runs `command` with `input`, in the namespace of the calling thread; says what CPU time it took.
pub fn feed(command: &str, input: &str) -> Duration {
    let _alone = TOOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = cpu(UsageWho::RUSAGE_CHILDREN);
    let words: Vec<_> = command.split(' ').collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command}: {e}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command}: {status}");
    cpu(UsageWho::RUSAGE_CHILDREN).saturating_sub(before)
}
