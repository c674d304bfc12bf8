//! For tests: a network namespace of their own. They need root and fail without.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread in a new network namespace that `setup`, command by command, has prepared. The namespace ends
/// with the thread and its sockets.
pub(crate) fn prepared(setup: &'static [&'static str], test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root");
        for command in setup {
            run(command);
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command, which must succeed.
pub(crate) fn run(command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.is_ok_and(|s| s.success()), "{command}");
}
