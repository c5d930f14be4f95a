/** Watches the order in which a function writes. */
import { vi } from 'vitest';
import { RegisterFile } from '../../src/function/registers.js';
import { Mapping } from '../../src/memory/address-space.js';
import type { Tracer } from '../../src/observe/tracer.js';
import type { Rig } from './rig.js';

/** One store of the function through a mapping. */
export interface Store {
  method: 'store8' | 'store32' | 'publish64' | 'decrementSignal' | 'storeSignal';
  address: number;
  value: number | undefined;
}

const METHODS = ['store8', 'store32', 'publish64', 'decrementSignal', 'storeSignal'] as const;

/**
 * The order of writes (S-74) as seen from memory: each watched value is looked at before and after every store, register
 * change and interrupt of the function, and its name is noted when it has changed. Two names in one look are joined by "+",
 * so that an order that cannot be told apart never passes for one.
 */
export class Journal {
  readonly order: string[] = [];
  readonly stores: Store[] = [];
  private readonly watched: { name: string; read: () => unknown; last: unknown }[] = [];

  constructor(rig: Rig) {
    for (const method of METHODS) {
      const original = Mapping.prototype[method] as (this: Mapping, address: number, value: number) => void;
      const journal = this;
      vi.spyOn(Mapping.prototype, method).mockImplementation(function (this: Mapping, address: number, value?: number) {
        journal.look();
        original.call(this, address, value as number);
        journal.stores.push({ method, address, value });
        journal.look();
      });
    }
    const set = RegisterFile.prototype.set;
    const journal = this;
    vi.spyOn(RegisterFile.prototype, 'set').mockImplementation(function (this: RegisterFile, offset, low, high) {
      journal.look();
      set.call(this, offset, low, high);
      journal.look();
    });
    rig.onInterrupt = (vector) => {
      this.look();
      this.order.push(`interrupt ${vector}`);
    };
  }

  watch(name: string, read: () => unknown): this {
    this.watched.push({ name, read, last: read() });
    return this;
  }

  look(): void {
    const changed = this.watched.filter((w) => {
      const now = w.read();
      const differs = now !== w.last;
      w.last = now;
      return differs;
    });
    if (changed.length > 0) this.order.push(changed.map((w) => w.name).join('+'));
  }

  /** Ends watching. @returns the order of what has changed */
  end(): string[] {
    this.look();
    vi.restoreAllMocks();
    return this.order;
  }
}

/** A tracer that keeps what happens as short words, in order: `fn 2`, `cxt 1 15`, `int 0`, `done 1 0`. */
export class Trace implements Tracer {
  readonly events: string[] = [];
  registerRead(): void {}
  registerWrite(): void {}
  doorbell(): void {}
  functionState(state: number): void {
    this.events.push(`fn ${state}`);
  }
  contextState(context: number, state: number): void {
    this.events.push(`cxt ${context} ${state}`);
  }
  descriptor(): void {}
  completion(context: number, index: number, error: boolean): void {
    this.events.push(`${error ? 'fail' : 'done'} ${context} ${index}`);
  }
  interrupt(vector: number): void {
    this.events.push(`int ${vector}`);
  }
  errorRecord(): void {
    this.events.push('record');
  }

  /** Events since the last call. */
  take(): string[] {
    return this.events.splice(0);
  }

  /** States that the function went through since the last call. */
  functionStates(): number[] {
    return this.take()
      .filter((event) => event.startsWith('fn '))
      .map((event) => Number(event.slice(3)));
  }
}
