import type { AddressSpaces } from '../memory/address-space.js';
import type { Tracer } from '../observe/tracer.js';
import type { Fabric } from './fabric.js';

/** Where the function's interrupts go. Vector 0 is the error interrupt. */
export interface InterruptPort {
  /** Size of the vector table: AKEY_ENT.intr_num is compared with this (S-94). */
  readonly vectors: number;
  raise(vector: number): void;
}

/** All that the function needs of the world around it. No port may call back into the function. */
export interface FunctionPorts {
  memory: AddressSpaces;
  interrupts: InterruptPort;
  /** Where it finds the other functions of its group; without one it is alone. */
  fabric?: Fabric;
  tracer?: Tracer;
}
