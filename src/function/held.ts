import type { LiveCompletion } from '../spec/index.js';
import type { FaultPort } from './ports.js';

interface Entry {
  /** Infinity: until an interrupt, or for ever. */
  readonly due: number;
  readonly afterInterrupt: boolean;
  readonly action: () => void;
  /** What it does, when that is a completion. */
  readonly completion: LiveCompletion | undefined;
}

/** What a fault plan holds back until its time comes. Empty without one. */
export class Held {
  private entries: Entry[] = [];

  /** Something waits for a time that will come. */
  get ticking(): boolean {
    return this.entries.some(({ due }) => due !== Number.POSITIVE_INFINITY);
  }

  /** Does it in `ms`. */
  hold({ now }: { now: number }, ms: number, action: () => void, completion?: LiveCompletion): void {
    this.entries.push({ due: now + ms, afterInterrupt: false, action, completion });
  }

  /** Does it when the next interrupt has been delivered. */
  holdForInterrupt(action: () => void, completion?: LiveCompletion): void {
    this.entries.push({ due: Number.POSITIVE_INFINITY, afterInterrupt: true, action, completion });
  }

  /** Does what is due. @returns how much that was */
  release(faults: FaultPort): number {
    const now = faults.now();
    return this.run(({ due }) => due <= now);
  }

  interrupted(): void {
    if (this.entries.length > 0) this.run(({ afterInterrupt }) => afterInterrupt);
  }

  /** The plan is over: everything happens now. */
  flush(): void {
    this.run(() => true);
  }

  /** The completions that are held back. */
  get completions(): LiveCompletion[] {
    return this.entries.flatMap(({ completion }) => completion ?? []);
  }

  clear(): void {
    this.entries = [];
  }

  private run(which: (entry: Entry) => boolean): number {
    const ready = this.entries.filter(which);
    if (ready.length === 0) return 0;
    this.entries = this.entries.filter((entry) => !ready.includes(entry));
    for (const { action } of ready) action();
    return ready.length;
  }
}
