/** Something that must not take for ever. */
export interface Timed {
  /** On the clock of `performance.now()`. */
  readonly deadline: number;
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
  private readonly live = new Set<Timed>();
  private timer: NodeJS.Timeout | undefined;
  private next = Number.POSITIVE_INFINITY;

  add(timed: Timed): void {
    this.live.add(timed);
    if (timed.deadline < this.next) this.arm(timed.deadline);
  }

  delete(timed: Timed): void {
    this.live.delete(timed);
  }

  /** Forgets all. */
  clear(): void {
    this.live.clear();
    clearTimeout(this.timer);
    this.next = Number.POSITIVE_INFINITY;
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
    let next = Number.POSITIVE_INFINITY;
    for (const timed of [...this.live]) {
      if (timed.deadline <= now) {
        this.live.delete(timed);
        timed.expire();
      } else if (timed.deadline < next) {
        next = timed.deadline;
      }
    }
    // Whoever expired may have added others.
    for (const timed of this.live) next = Math.min(next, timed.deadline);
    this.arm(next);
  }
}
