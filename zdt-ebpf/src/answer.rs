//! What is kept of a connection's last answer, and how it is reported.

use aya_ebpf::{
    helpers::{bpf_get_socket_cookie, bpf_probe_read_kernel_buf, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use zdt_common::{Answer, HEAD_LEN, LastAnswer};

use crate::{
    maps::ANSWERS,
    segment::{Segment, load},
};

/// What a new entry is made of: too large for the stack.
static NONE: LastAnswer = LastAnswer::NONE;

/// The entry of a packet's connection, if it has one.
#[inline(always)]
pub fn known(cookie: u64) -> Option<&'static mut LastAnswer> {
    ANSWERS.get_ptr_mut(cookie).map(|entry| unsafe { &mut *entry })
}

/// The entry of a packet's connection, a new one where it has none.
#[inline(always)]
pub fn entry(cookie: u64) -> Option<&'static mut LastAnswer> {
    if let Some(entry) = known(cookie) {
        return Some(entry);
    }
    let _ = ANSWERS.insert(cookie, &NONE, 0);
    known(cookie)
}

/// `sk->__sk_common.skc_cookie` of a packet's socket; it is made here where there is none yet.
#[inline(always)]
pub fn cookie(ctx: &SkBuffContext) -> u64 {
    unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) }
}

/// Copies the payload's beginning; returns how much.
#[inline(always)]
pub fn head(ctx: &SkBuffContext, segment: &Segment, to: &mut [u8; HEAD_LEN]) -> u32 {
    let mut last = segment.len - 1;
    if last >= HEAD_LEN as u32 {
        last = HEAD_LEN as u32 - 1;
    }
    // The verifier of older kernels forgets the comparison, and the compiler would drop a mask that it knows to be needless.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) last, const HEAD_LEN - 1, options(nostack, pure, nomem));
    }
    let len = last + 1;
    let loaded = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), segment.at, to.as_mut_ptr().cast(), len) };
    if loaded == 0 { len } else { 0 }
}

/// Follows what goes out behind the head. What was sent before says nothing new.
#[inline(always)]
pub fn follow(ctx: &SkBuffContext, segment: &Segment, entry: &mut LastAnswer) {
    let next = segment.seq.wrapping_add(segment.len);
    if (next.wrapping_sub(entry.next) as i32) <= 0 {
        return;
    }
    let end = segment.at + segment.len;
    if segment.len >= 8 {
        let mut last = [0; 8];
        load(ctx, end - 8, &mut last);
        entry.tail = u64::from_be_bytes(last);
    } else {
        let mut at = segment.at;
        let mut tail = entry.tail;
        if segment.len & 4 != 0 {
            let mut four = [0; 4];
            load(ctx, at, &mut four);
            tail = tail << 32 | u32::from_be_bytes(four) as u64;
            at += 4;
        }
        if segment.len & 2 != 0 {
            let mut two = [0; 2];
            load(ctx, at, &mut two);
            tail = tail << 16 | u16::from_be_bytes(two) as u64;
            at += 2;
        }
        if segment.len & 1 != 0 {
            let mut one = [0; 1];
            load(ctx, at, &mut one);
            tail = tail << 8 | one[0] as u64;
        }
        entry.tail = tail;
    }
    entry.next = next;
}

/// Writes an entry into an event, without its head.
#[inline(always)]
pub fn write(event: &mut Answer, entry: &LastAnswer) {
    event.answer.tail = entry.tail;
    event.answer.seq = entry.seq;
    event.answer.next = entry.next;
    event.answer.kept = entry.kept;
    event.answer.begun = entry.begun;
    event.answer.to_head = entry.to_head;
}

/// Writes an entry into an event of a tracing program, its head included.
#[inline(always)]
pub fn write_whole(event: &mut Answer, entry: &LastAnswer) {
    write(event, entry);
    let copied = unsafe { bpf_probe_read_kernel_buf(entry.head.as_ptr(), &mut event.answer.head) };
    if copied.is_err() {
        event.answer.kept = 0;
    }
}
