import type { Bus } from '../bus/bus.js';
import { SdxiError } from '../errors.js';
import { ContextState, FunctionState, nameOf } from '../spec/codes.js';
import { Reg } from '../spec/registers.js';
import { activate, functionState, stopFunction } from './activate.js';
import type { Context, WorkOptions } from './context.js';
import type { SdxiDriver } from './driver.js';

/** How far a suspension has come. SETTLING: what changes contexts comes to its end, no new work; ASLEEP: nothing may touch a ring. */
export const Phase = { AWAKE: 0, SETTLING: 1, ASLEEP: 2 } as const;
export type Phase = (typeof Phase)[keyof typeof Phase];

export interface SuspendOptions extends WorkOptions {
  /** Do not wait for descriptors in execution: they are abandoned, and what they belong to rejects (S-86). Default false. */
  hard?: boolean;
}

/** What a suspension needs of its driver besides what everybody sees. */
export interface SuspensionHost {
  readonly driver: SdxiDriver;
  readonly bus: Bus;
  /** The function is ACTIVE as far as the driver knows, or no longer. */
  setActive(active: boolean): void;
}

/** Microtasks until an idle tracker has begun what it was asked to do, and some more. */
const TRIES = 8;

type Limit = { timeoutMs: number; signal?: AbortSignal };

/** Puts a function to sleep with all that is in its rings, and wakes it up again: ref §3.5 and §10. */
export class Suspension {
  phase: Phase = Phase.AWAKE;
  /** The function has reached STOP. */
  complete = false;
  /** Descriptors in execution were abandoned. */
  abandons = false;
  private changing: Promise<void> = Promise.resolve();
  private readonly host: SuspensionHost;

  constructor(host: SuspensionHost) {
    this.host = host;
  }

  /** @throws SdxiError ERR_SDXI_STATE for a context that may take no work now, or for anything else that would change the driver */
  refuse(context?: number): void {
    // Stops and starts that are under way need context 0 to come to their end.
    if (this.phase === Phase.SETTLING && context === 0) return;
    const { name } = this.host.driver;
    throw new SdxiError('ERR_SDXI_STATE', `${name} is suspended`, {
      hint: 'resume it first (driver.resume), here or from its snapshot in another process',
      fields: { function: name },
    });
  }

  /** One change at a time, in the order of the calls. */
  private serially(change: () => Promise<void>): Promise<void> {
    const { bus } = this.host;
    const next = this.changing.then(async () => {
      bus.ref();
      try {
        await change();
      } finally {
        bus.unref();
      }
    });
    this.changing = next.catch(() => {});
    return next;
  }

  /** Stops the function; from here on nothing of it, and nothing of the driver, writes to DMA memory. */
  suspend(options: { hard: boolean } & Limit): Promise<void> {
    return this.serially(() => this.fallAsleep(options));
  }

  private async fallAsleep({ hard, ...limit }: { hard: boolean } & Limit): Promise<void> {
    if (this.complete) return;
    const { driver } = this.host;
    const contexts = [...driver.contexts.values()];
    if (this.phase === Phase.AWAKE) for (const context of contexts) context.assertSubmitted();
    const again = this.phase === Phase.ASLEEP;
    if (!again) this.phase = Phase.SETTLING;
    try {
      await this.holding(contexts, limit, async () => {
        this.phase = Phase.ASLEEP;
        driver.deadlines.pause();
        for (const context of driver.contexts.values()) context.tracker.park();
        this.host.setActive(false);
        await this.stop(hard, limit);
      });
    } catch (error) {
      if (this.phase === Phase.SETTLING) this.phase = Phase.AWAKE;
      throw error;
    }
  }

  /** A soft stop may take as long as a descriptor takes (S-87); it is not hurried, since that would lose one. */
  private async stop(hard: boolean, limit: Limit): Promise<void> {
    const { bus, driver } = this.host;
    this.abandons ||= hard && functionState(bus) !== FunctionState.STOP;
    await stopFunction(bus, driver.name, { hard, patient: true, ...limit });
    for (const context of driver.contexts.values()) context.functionHasStopped({ hard: this.abandons });
    this.complete = true;
  }

  /**
   * Runs an action while no stop, start, recovery or withdrawal of any context is under way. Those that are finish first: they need
   * context 0, which is therefore held last.
   */
  private async holding(contexts: readonly Context[], limit: Limit, action: () => Promise<void>): Promise<void> {
    const { bus, driver } = this.host;
    let open = (): void => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const hold = async (some: readonly Context[]): Promise<void> => {
      let left = some.length;
      for (const { tracker } of some) {
        void tracker.exclusive(() => {
          left--;
          return opened;
        });
      }
      // Mostly nothing is under way. A wait, or a turn of the event loop, would let an inline function run.
      for (let tries = 0; left > 0 && tries < TRIES; tries++) await undefined;
      await bus.wait(() => left === 0, { what: `${driver.name}: changes of contexts that are under way`, mode: 'polled', ...limit });
    };
    try {
      await hold(contexts.filter(({ number }) => number !== 0));
      await hold(contexts.filter(({ number }) => number === 0));
      await action();
    } finally {
      open();
    }
  }

  /** Goes on where {@link suspend} has stopped. */
  resume(limit: Limit): Promise<void> {
    return this.serially(() => this.wakeUp(limit));
  }

  private async wakeUp(limit: Limit): Promise<void> {
    const { driver } = this.host;
    if (this.phase !== Phase.ASLEEP) {
      throw new SdxiError('ERR_SDXI_STATE', `${driver.name} is not suspended`, {
        hint: 'suspend it first, or recover it (driver.recover)',
      });
    }
    const others = [...driver.contexts.values()].filter(({ number }) => number !== 0);
    // Not context 0: it has to be brought back, should it fail, for the others to start.
    await this.holding(others, limit, () => this.restart(others, limit));
  }

  private async restart(others: readonly Context[], limit: Limit): Promise<void> {
    const { bus, driver } = this.host;
    if (!this.complete) await this.stop(false, limit);
    this.assertUntouched();
    await activate(bus, driver.name, limit);
    this.host.setActive(true);
    this.ended();
    const context0 = driver.contexts.get(0) as Context;
    if (context0.state() !== ContextState.ERR_FN) context0.jumpStart();
    context0.unpark();
    driver.errorLog.drain();
    try {
      await this.start(others, limit);
    } finally {
      for (const context of others) context.unpark();
    }
  }

  /** Somebody else may have reset the function, or used it. @throws SdxiError ERR_SDXI_STATE */
  private assertUntouched(): void {
    const { bus, driver } = this.host;
    const state = functionState(bus);
    const level2 = bus.readRegister(Reg.CXT_L2);
    if (state === FunctionState.STOP && level2 === BigInt(driver.tables.level2.iova)) return;
    throw new SdxiError('ERR_SDXI_STATE', `${driver.name} was used or reset while it was suspended`, {
      hint: 'bring it back with driver.recover()',
      fields: { state: nameOf(FunctionState, state), level2 },
    });
  }

  /** @internal The function runs again, by whatever way. */
  ended(): void {
    this.phase = Phase.AWAKE;
    this.complete = false;
    this.abandons = false;
    this.host.driver.deadlines.resume();
  }

  /**
   * CXT_START.RS for those that the stop has stopped, neighbours by one descriptor. It looks at Write_Index by itself, so nothing is
   * lost of what was rung meanwhile (ref §10). Who was stopped or had failed before stays as it is.
   */
  private async start(others: readonly Context[], limit: Limit): Promise<void> {
    const { driver } = this.host;
    const numbers = others.filter((context) => context.state() === ContextState.STOP_FN).map(({ number }) => number);
    // One that says RUN without having run is none of the stop's (S-79): its doorbell may have been lost.
    for (const context of others) if (context.state() === ContextState.RUN) context.ring.ringDoorbell(context.ring.writeIndex);
    let failure: Error | undefined;
    for (const [first, last] of ranges(numbers)) {
      try {
        await driver.admin.start(first, { last, resume: true, ...limit });
      } catch (error) {
        // The rest of a range is started all the same (S-83).
        failure ??= error as Error;
      }
    }
    if (!failure) return;
    for (const context of others) if (context.state() === ContextState.STOP_FN) context.tracker.lose(failure);
    throw failure;
  }
}

/** Numbers as inclusive ranges. */
function ranges(numbers: readonly number[]): [first: number, last: number][] {
  const found: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const before = found.at(-1);
    if (before && before[1] === number - 1) before[1] = number;
    else found.push([number, number]);
  }
  return found;
}
