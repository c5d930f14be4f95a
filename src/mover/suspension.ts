import type { Deadlines } from '../driver/deadlines.js';
import type { WorkOptions } from '../driver/index.js';
import { SdxiError } from '../errors.js';
import type { Channel } from './channel.js';

/** Suspends the functions of a mover together, and wakes them up together. */
export class MoverSuspension {
  private readonly channels: readonly Channel[];
  private readonly deadlines: Deadlines;
  private asleep = false;
  private changing: Promise<void> = Promise.resolve();

  constructor(channels: readonly Channel[], deadlines: Deadlines) {
    this.channels = channels;
    this.deadlines = deadlines;
  }

  /** Suspended, or on the way there. */
  get suspended(): boolean {
    return this.asleep;
  }

  private serially(change: () => Promise<void>): Promise<void> {
    const next = this.changing.then(change);
    this.changing = next.catch(() => {});
    return next;
  }

  suspend(options: WorkOptions & { hard?: boolean }): Promise<void> {
    return this.serially(async () => {
      if (this.asleep) return;
      this.asleep = true;
      for (const channel of this.channels) channel.hold();
      this.deadlines.pause();
      // A function that is lost has nothing left to go on with.
      const alive = this.channels.filter((channel) => !channel.lost);
      const results = await Promise.allSettled(alive.map(({ driver }) => driver.suspend(options)));
      const failed = results.find((result) => result.status === 'rejected');
      if (!failed) return;
      await this.wake({}).catch(() => {});
      throw failed.reason;
    });
  }

  resume(options: WorkOptions): Promise<void> {
    return this.serially(async () => {
      if (!this.asleep) throw new SdxiError('ERR_SDXI_STATE', 'this mover is not suspended', { hint: 'suspend it first' });
      await this.wake(options);
    });
  }

  /** What does not come back fails, and the rest goes on. */
  private async wake(options: WorkOptions): Promise<void> {
    const asleep = this.channels.filter(({ driver, lost }) => driver.suspended && !lost);
    const results = await Promise.allSettled(asleep.map(({ driver }) => driver.resume(options)));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed && asleep.some(({ driver }) => driver.suspended)) throw failed.reason;
    this.asleep = false;
    this.deadlines.resume();
    for (const channel of this.channels) channel.release();
    if (failed) throw failed.reason;
  }
}
