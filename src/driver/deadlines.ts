/** Something that must not take for ever. */
export interface Timed {
  /** On the clock of `performance.now()`; moved by what {@link Deadlines.pause} has cost. */
  deadline: number;
  expire(): void;
}

/** setTimeout takes no more. */
const TIMER_MAX = 2 ** 31 - 1;

/**
 * One timer for any number of deadlines. Nearly all work is done long before its deadline, and later work has later deadlines:
 * so an entry costs a Set insertion, and the timer is armed anew only for a deadline that is earlier than all before it.
 * The timer does not keep the process alive.
 */
export class Deadlines {
  private live = new Set<Timed>();
  /** Entries whose time stands still, and since when. */
  private frozen: { readonly timed: Set<Timed>; readonly since: number } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private next = Number.POSITIVE_INFINITY;

  add(timed: Timed): void {
    this.live.add(timed);
    if (timed.deadline < this.next) this.arm(timed.deadline);
  }

  delete(timed: Timed): void {
    if (!this.live.delete(timed)) this.frozen?.timed.delete(timed);
  }

  /** Time stands still for all that is here, until {@link resume}; it runs for what is added meanwhile. Idempotent. */
  pause(): void {
    if (this.frozen) return;
    this.frozen = { timed: this.live, since: performance.now() };
    this.live = new Set();
    this.arm(Number.POSITIVE_INFINITY);
  }

  resume(): void {
    const { frozen } = this;
    if (!frozen) return;
    this.frozen = undefined;
    const elapsed = performance.now() - frozen.since;
    for (const timed of frozen.timed) {
      timed.deadline += elapsed;
      this.add(timed);
    }
  }

  /** Forgets all. */
  clear(): void {
    this.live.clear();
    this.frozen = undefined;
    this.arm(Number.POSITIVE_INFINITY);
  }

  private arm(deadline: number): void {
    clearTimeout(this.timer);
    this.next = deadline;
    if (deadline === Number.POSITIVE_INFINITY) return;
    const delay = Math.min(Math.max(1, Math.ceil(deadline - performance.now())), TIMER_MAX);
    this.timer = setTimeout(() => this.fire(), delay).unref();
  }

  private fire(): void {
    const now = performance.now();
    const due = [...this.live].filter(({ deadline }) => deadline <= now);
    // In their order, however late this is; what one of them ends need not expire any more.
    for (const timed of due.sort((a, b) => a.deadline - b.deadline)) if (this.live.delete(timed)) timed.expire();
    // Whoever expired may have added others.
    let next = Number.POSITIVE_INFINITY;
    for (const timed of this.live) next = Math.min(next, timed.deadline);
    this.arm(next);
  }
}
