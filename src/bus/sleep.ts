import { setImmediate as nextTurn, setTimeout as pauseFor } from 'node:timers/promises';
import { AbortError, TimeoutError } from '../errors.js';
import { CAN_SPIN, relax } from '../memory/spin.js';
import type { WaitOptions } from './bus.js';
import type { InterruptWords } from './interrupt-words.js';

/** A lone wait looks so long without letting go of the thread: a hot round trip ends within. */
export const SPIN_MS = 0.005;
/** Then it looks once each turn of the event loop. */
export const POLL_MS = 0.2;
/** `polled` goes on like that for longer, before it takes to timers. */
export const POLL_LONG_MS = 20;
/** Asleep on a vector it looks at least so often: an interrupt that never comes costs no more than this. */
export const LOOK_MS = 20;
/** Woken by an interrupt, it polls so long again: what the interrupt announces may follow it (Read_Index does). */
export const AFTER_WAKE_MS = 0.05;
/** Without a vector there are only timers. */
export const TIMER_MS = 1;

type WaitAsync = (
  words: Int32Array,
  index: number,
  value: number,
  timeoutMs: number,
) => { async: false; value: string } | { async: true; value: Promise<string> };
const { waitAsync } = Atomics as unknown as { waitAsync: WaitAsync };

/** What a wait needs of the bus that it waits on. */
export interface Sleeper {
  /** Throws once nothing can come any more. */
  check(): void;
  /** A pending `waitAsync` does not keep the event loop alive, so the bus must. */
  ref(): void;
  unref(): void;
}

/**
 * The one way to wait for what a function does: spin, poll, sleep, each longer than the one before.
 * @param alone whether this is the only wait of its bus: several would spin one after the other
 */
export async function sleepOnInterrupts(
  interrupts: InterruptWords,
  bus: Sleeper,
  condition: () => boolean,
  options: WaitOptions,
  alone: boolean,
): Promise<void> {
  const { what, timeoutMs, signal, vector, mode = 'adaptive' } = options;
  const { words } = interrupts;
  if (signal?.aborted) throw new AbortError(what, { cause: signal.reason });
  const start = performance.now();
  const deadline = start + timeoutMs;
  if (alone && CAN_SPIN && mode !== 'interrupt') {
    const until = Math.min(start + SPIN_MS, deadline);
    do {
      relax();
      if (condition()) return;
    } while (performance.now() < until);
  }
  let pollUntil = mode === 'interrupt' ? start : start + (mode === 'polled' ? POLL_LONG_MS : POLL_MS);
  const word = vector === undefined || mode === 'polled' ? -1 : interrupts.word(vector);
  const wake = () => Atomics.notify(words, word);
  let listening = false;
  try {
    for (;;) {
      // The order matters: whatever is delivered after this look at the word makes waitAsync return at once.
      const seen = word < 0 ? 0 : Atomics.load(words, word);
      if (condition()) return;
      bus.check();
      if (signal?.aborted) throw new AbortError(what, { cause: signal.reason });
      const now = performance.now();
      if (now >= deadline) {
        if (condition()) return;
        throw new TimeoutError(what, timeoutMs);
      }
      if (now < pollUntil) {
        await nextTurn();
      } else if (word < 0) {
        await pauseFor(Math.min(TIMER_MS, deadline - now));
      } else if (!listening) {
        // Deliveries notify only who listens, so look once more before sleeping.
        listening = true;
        interrupts.listen(vector as number, 1);
        bus.ref();
        signal?.addEventListener('abort', wake);
      } else {
        const sleep = waitAsync(words, word, seen, Math.min(LOOK_MS, deadline - now));
        const woken = sleep.async ? await sleep.value : sleep.value;
        if (woken !== 'timed-out') pollUntil = performance.now() + AFTER_WAKE_MS;
      }
    }
  } finally {
    if (listening) {
      signal?.removeEventListener('abort', wake);
      bus.unref();
      interrupts.listen(vector as number, -1);
    }
  }
}
