import type { AddressSpaces } from '../memory/address-space.js';
import type { Tracer } from '../observe/tracer.js';
import type { ContextState } from '../spec/index.js';
import type { Peer } from './fabric.js';

/** Where the function's interrupts go. Vector 0 is the error interrupt. */
export interface InterruptPort {
  /** Size of the vector table: AKEY_ENT.intr_num is compared with this (S-94). */
  readonly vectors: number;
  raise(vector: number): void;
}

/** How a function finds the others of its group, and they it. `Fabric` is the one for functions of one thread. */
export interface FabricPort {
  join(self: Peer): void;
  leave(self: Peer): void;
  /** Who answers to a handle when `requester` asks. */
  find(requester: Peer, sfunc: number): Peer | undefined;
  /** GRP_ENUM.busy. */
  probedFor(self: Peer): boolean;
  /**
   * The epoch of `self` has changed: consent that others rely on may be gone. Returns when no slice is under way that had been let
   * through before (S-99, S-112).
   */
  revoked(self: Peer): void;
}

/** What a fault plan has for a descriptor: ref §12. */
export type DescriptorFault =
  /** It waits so long before it executes; for ever without a number. */
  | { kind: 'hold'; ms: number }
  /** It fails, and has done nothing. */
  | { kind: 'fail' }
  /** A COPY that fails after its first half. */
  | { kind: 'half' }
  /** An administrative one that completes with er, and has done nothing. */
  | { kind: 'refuse' }
  /** An internal error of its context. */
  | { kind: 'error' };

/** What a fault plan has for a completion block. */
export type CompletionFault = { kind: 'hold'; ms: number } | { kind: 'afterInterrupt' } | { kind: 'overwrite' };

/** Faults on demand: asked at each of these moments, and only while a plan is in force. */
export interface FaultPort {
  /** What a function with `reorder=on` cannot do, by name. */
  readonly inOrderOnly: readonly string[];
  /** Milliseconds of any clock that goes forward. */
  now(): number;
  /** @param code type and subtype: `type << 8 | subtype` */
  descriptor(context: number, code: number): DescriptorFault | undefined;
  /** An interrupt on vector 0, or an informative record, that come with a descriptor. */
  noise(context: number): 'interrupt' | 'record' | undefined;
  completion(context: number): CompletionFault | undefined;
  /** What Read_Index shows; undefined: it is not written. */
  readIndex(context: number, index: number): number | undefined;
  contextState(context: number, state: ContextState): number;
  /** How often an interrupt is delivered. */
  interrupts(vector: number): number;
  /** What a register shows. */
  register(offset: number, value: bigint): bigint;
  /** How long INIT lasts. */
  activationMs(): number | undefined;
  /** When the function fails after its activation. */
  errorAfterActivationMs(): number | undefined;
  /** How long a RESET in STOP takes, which does something then. */
  lateResetMs(): number | undefined;
  /** The soft stop under way makes no progress. */
  holdsSoftStop(): boolean;
  /** May change the record; `lost`: it cannot be written, `ahead`: ERR_WRT goes far ahead. */
  record(record: Uint32Array): 'lost' | 'ahead' | undefined;
}

/** All that the function needs of the world around it. No port may call back into the function. */
export interface FunctionPorts {
  memory: AddressSpaces;
  interrupts: InterruptPort;
  /** Where it finds the other functions of its group; without one it is alone. */
  fabric?: FabricPort;
  tracer?: Tracer;
  /**
   * What virtual function `number` (from 1 on) needs of the world: memory and interrupts of its own. For functions with `vfs`; asked once
   * for each. Without a fabric there it meets its physical function and the others in the one of the physical function.
   */
  virtual?(number: number): FunctionPorts;
}
