import type { AddressSpaces } from '../memory/address-space.js';
import type { Tracer } from '../observe/tracer.js';
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
