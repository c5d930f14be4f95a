import { checkLimits } from '../bus/checks.js';
import { AbortError, TimeoutError } from '../errors.js';
import { SyncFilter } from '../spec/codes.js';
import {
  type ContextStart,
  encodeAdminInterrupt,
  encodeAkeyUpdate,
  encodeContextStart,
  encodeContextStop,
  encodeContextUpdate,
  encodeFunctionUpdate,
  encodeRkeyUpdate,
  encodeSync,
  type KeyRange,
  type Sync,
} from '../spec/encode.js';
import type { DescriptorBatch } from './batch.js';
import type { Context, WorkOptions } from './context.js';

/** Whose contexts, keys and vectors. */
export interface Target extends WorkOptions {
  /** A virtual function of this one, by its number from 1 on (S-55); default the function itself. */
  vf?: number;
}

/** Which contexts, inclusive; default one. */
export interface Range extends Target {
  last?: number;
}

/**
 * Administrative operations, on the ring of context 0. Each is one batch, so one completion block tells whether it worked.
 * @throws ContextError when the function refuses; TimeoutError, AbortError, BusLostError, ClosedError from all of them
 */
export class AdminQueue {
  private readonly context: Context;
  private readonly timeoutMs: number;

  constructor(context: Context, timeoutMs: number) {
    this.context = context;
    this.timeoutMs = timeoutMs;
  }

  /** CXT_START: starts contexts; with `resume` also those that an error or a function stop has stopped (S-25). */
  start(first: number, { last, resume, doorbell, vf, ...options }: Range & Pick<ContextStart, 'resume' | 'doorbell'> = {}): Promise<void> {
    return this.run(
      `start of context ${first}`,
      1,
      (batch) => batch.write((...at) => encodeContextStart(...at, { first, last, resume, doorbell, vf })),
      options,
    );
  }

  /** {@link start} with resume on the calling thread, for those who spin. @returns whether it worked */
  startNow(first: number, doorbell: bigint): boolean {
    try {
      const batch = this.context.begin(1);
      batch.write((...at) => encodeContextStart(...at, { first, resume: true, doorbell }));
      batch.submitAndSpin(this.timeoutMs);
      return true;
    } catch {
      return false;
    }
  }

  /** CXT_STOP and SYNC.STOP: resolves when the contexts stand still. Context 0 cannot wait for itself. */
  stop(first: number, { last, hard, vf, ...options }: Range & { hard?: boolean } = {}): Promise<void> {
    return this.run(
      `stop of context ${first}`,
      2,
      (batch) => {
        batch.write((...at) => encodeContextStop(...at, { first, last, hard, vf }));
        batch.write((...at) => encodeSync(...at, { filter: SyncFilter.STOP, first, last, vf }));
      },
      options,
    );
  }

  /** SYNC alone. */
  sync(sync: Sync, options: WorkOptions = {}): Promise<void> {
    return this.run('sync', 1, (batch) => batch.write((...at) => encodeSync(...at, sync)), options);
  }

  /** CXT_UPD and SYNC.CXT: the function forgets what it knew of the tables of these contexts. */
  updateContexts(
    first: number,
    { last, l2, l1, ctl, vf, ...options }: Range & { l2?: boolean; l1?: boolean; ctl?: boolean } = {},
  ): Promise<void> {
    return this.run(
      `update of context ${first}`,
      2,
      (batch) => {
        batch.write((...at) => encodeContextUpdate(...at, { first, last, l2, l1, ctl, vf }));
        batch.write((...at) => encodeSync(...at, { filter: SyncFilter.CXT, first, last, vf }));
      },
      options,
    );
  }

  /** Makes a new context known and starts it: CXT_UPD, SYNC.CXT, CXT_START. */
  publish(number: number, { l2, ...options }: WorkOptions & { l2?: boolean } = {}): Promise<void> {
    return this.run(
      `start of context ${number}`,
      3,
      (batch) => {
        batch.write((...at) => encodeContextUpdate(...at, { first: number, l2, l1: true }));
        batch.write((...at) => encodeSync(...at, { filter: SyncFilter.CXT, first: number }));
        batch.write((...at) => encodeContextStart(...at, { first: number }));
      },
      options,
    );
  }

  /** AKEY_UPD and SYNC.AKEY: changed keys are in force, and old ones no longer used. */
  updateKeys(first: number, keys: KeyRange, { last, vf, ...options }: Range = {}): Promise<void> {
    return this.run(
      `key update of context ${first}`,
      2,
      (batch) => {
        batch.write((...at) => encodeAkeyUpdate(...at, { first, last, vf, ...keys }));
        batch.write((...at) => encodeSync(...at, { filter: SyncFilter.AKEY, first, last, vf, ...keys }));
      },
      options,
    );
  }

  /** RKEY_UPD and SYNC.RKEY: no function reaches this one any more under what these keys were. */
  updateRemoteKeys(keys: KeyRange, { vf, ...options }: Target = {}): Promise<void> {
    return this.run(
      'remote key update',
      2,
      (batch) => {
        batch.write((...at) => encodeRkeyUpdate(...at, { ...keys, vf }));
        batch.write((...at) => encodeSync(...at, { filter: SyncFilter.RKEY, vf, ...keys }));
      },
      options,
    );
  }

  /** FN_UPD and SYNC.FN: function-level structures have changed. */
  updateFunction({ vf, ...options }: Target = {}): Promise<void> {
    return this.run(
      'update of the function',
      2,
      (batch) => {
        batch.write((...at) => encodeFunctionUpdate(...at, { vf }));
        batch.write((...at) => encodeSync(...at, { filter: SyncFilter.FN, vf }));
      },
      options,
    );
  }

  /** ADM_INTR: raises an interrupt vector. */
  interrupt(vector: number, { vf, ...options }: Target = {}): Promise<void> {
    return this.run(`interrupt ${vector}`, 1, (batch) => batch.write((...at) => encodeAdminInterrupt(...at, { vector, vf })), options);
  }

  /** Any administrative batch. */
  async run(
    what: string,
    count: number,
    write: (batch: DescriptorBatch) => void,
    { timeoutMs = this.timeoutMs, signal }: WorkOptions = {},
  ): Promise<void> {
    checkLimits({ timeoutMs, signal });
    if (signal?.aborted) throw new AbortError(what, { cause: signal.reason });
    // Nobody's operation may fail because others have many of them.
    const { context } = this;
    while (context.free < count && count <= context.maxBatch) {
      if (!(await context.room(count, { what, timeoutMs, signal }))) break;
    }
    const batch = context.begin(count);
    try {
      write(batch);
    } catch (error) {
      batch.abandon();
      throw error;
    }
    const hint = 'the function does not answer; recover it (driver.recover) or close it';
    try {
      await context.limit(batch.submit(), { what, timeoutMs, signal, hint });
    } catch (error) {
      if (error instanceof TimeoutError) context.functionSilent();
      throw error;
    }
  }
}
