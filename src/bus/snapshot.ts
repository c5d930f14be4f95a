import { SdxiError } from '../errors.js';
import type { FunctionSnapshot } from '../spec/snapshot.js';
import type { Bus } from './bus.js';

/** What a bus can do whose function is software: save it, and make it another one's successor. Ref §10. */
export interface Snapshotting {
  /**
   * The registers of the function, which must be in GSV_STOP. Memory travels beside it, and so do the mappings of addresses and the
   * masks of interrupt vectors, which are the bus's: whoever takes over makes them anew.
   * @throws SdxiError ERR_SDXI_STATE in another state; ClosedError, BusLostError
   */
  snapshot(): FunctionSnapshot;
  /**
   * Makes the function of this bus, which must be in GSV_STOP, the one of a snapshot: whole or not at all.
   * @throws SdxiError ERR_SDXI_STATE in another state, for a snapshot of another version, of a function with other capabilities, or
   * that was changed; ClosedError, BusLostError
   */
  restore(snapshot: FunctionSnapshot): void;
}

/** Whether the function behind a bus can be saved and restored. */
export function canSnapshot(bus: Bus): bus is Bus & Snapshotting {
  const { snapshot, restore } = bus as Partial<Snapshotting>;
  return typeof snapshot === 'function' && typeof restore === 'function';
}

/** The same bus. @throws SdxiError ERR_SDXI_UNSUPPORTED when its function cannot be saved and restored */
export function snapshotting(bus: Bus): Bus & Snapshotting {
  if (canSnapshot(bus)) return bus;
  throw new SdxiError('ERR_SDXI_UNSUPPORTED', `the function behind ${bus.uri} cannot be saved or restored`, {
    hint: 'only software functions can (embedded:); stop this one with driver.stop() and go on with driver.recover()',
    fields: { uri: bus.uri },
  });
}

/**
 * A driver over a bus restores functions that were stopped; one that was saved in the middle of its work belongs to whoever holds the
 * function itself, and thaws it.
 * @throws SdxiError ERR_SDXI_STATE for a snapshot with a live part
 */
export function stoppedOnly(snapshot: FunctionSnapshot): FunctionSnapshot {
  if (snapshot?.live === undefined) return snapshot;
  throw new SdxiError('ERR_SDXI_STATE', 'a bus cannot go on with the snapshot of a function in the middle of its work', {
    hint: 'give it to SdxiFunction.restore(), then thaw(); or stop the function before it is saved (driver.suspend)',
  });
}
