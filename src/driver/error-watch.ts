import type { Bus } from '../bus/bus.js';
import { BusLostError, TimeoutError } from '../errors.js';

/** The last error interrupt is waited for so long after the last work has ended. */
const LINGER_MS = 50;

/**
 * Waits for the error interrupt (vector 0) while anyone sleeps. Those who poll see CXT_STS.state themselves, and an idle driver must
 * not keep the process alive: so the watch ends when no work is in flight any more.
 */
export class ErrorWatch {
  private readonly bus: Bus;
  private readonly on: { interrupted(): void; lost(error: BusLostError): void };
  private readonly ending = new AbortController();
  private working = 0;
  private watching = false;
  private seen = 0;

  constructor(bus: Bus, on: { interrupted(): void; lost(error: BusLostError): void }) {
    this.bus = bus;
    this.on = on;
  }

  /** From now on interrupts count. */
  arm(): void {
    this.seen = this.bus.interruptCount(0);
  }

  /** Keeps the process alive until {@link workEnds}; counted. */
  workBegins(): void {
    this.working++;
    this.bus.ref();
  }

  workEnds(): void {
    this.working--;
    this.bus.unref();
  }

  /** Someone is going to sleep. */
  start(): void {
    if (this.watching || this.ending.signal.aborted) return;
    this.watching = true;
    void this.run();
  }

  end(): void {
    this.ending.abort();
  }

  private async run(): Promise<void> {
    const { bus, on, ending } = this;
    const options = { what: 'error interrupt', timeoutMs: LINGER_MS, vector: 0, mode: 'interrupt', signal: ending.signal } as const;
    try {
      while (this.working > 0) {
        try {
          await bus.wait(() => bus.interruptCount(0) !== this.seen, options);
          this.arm();
          on.interrupted();
        } catch (error) {
          if (!(error instanceof TimeoutError)) throw error;
        }
      }
    } catch (error) {
      // Closed or aborted: the end. Lost: nobody else may be looking.
      if (error instanceof BusLostError) on.lost(error);
    } finally {
      this.watching = false;
    }
  }
}
