/**
 * What a stopped function is, besides the memory it works on: its registers. Contexts, rings and indexes lie in memory, which
 * travels beside the snapshot. Ref §10.
 */
export interface FunctionSnapshot {
  format: 'sdxi-function';
  /** 2 with {@link live}, else 1. */
  version: typeof SNAPSHOT_VERSION | typeof LIVE_SNAPSHOT_VERSION;
  /** CAP0, CAP1 and VERSION: whoever takes over must report the same, for software has read them. */
  capabilities: Record<string, string>;
  /** Everything that software or the function can have changed; 64-bit values in hexadecimal. */
  registers: Record<string, string>;
  /** What a function knows in the middle of its work: of one that was frozen, not stopped (S-125). */
  live?: LiveState;
  /** SHA-256 of all of the above, in hexadecimal. */
  checksum: string;
}

export const SNAPSHOT_VERSION = 1;
/** Of a snapshot that has a live part: whoever does not know that part must not take the rest. */
export const LIVE_SNAPSHOT_VERSION = 2;

/** A function between two descriptors. Addresses and indexes are numbers, for those beyond 2^53 are faults in any case (S-103). */
export interface LiveState {
  /** FunctionState. */
  state: number;
  /** Steps left in INIT. */
  initLeft: number;
  /** The stop under way ends in a reset (S-11). */
  resetAtStop: boolean;
  /** Contexts whose doorbell came in INIT (S-10). */
  early: number[];
  contexts: LiveContext[];
  /** Completions that a fault plan held back (S-127). */
  completions: LiveCompletion[];
  /** Copies of table entries, for functions that keep any (ref §4.11). */
  copies?: LiveCopies;
}

export interface LiveContext {
  number: number;
  /** In line for a turn. */
  queued: boolean;
  rung: boolean;
  loadFailureLogged: boolean;
  /** What is known of a member of the running set. */
  running?: LiveRunning;
  /** The administrative operation that context 0 is in the middle of (S-126). */
  admin?: LiveOperation;
}

export interface LiveRunning {
  state: number;
  stop: 'none' | 'soft' | 'hard';
  idle: boolean;
  reload: boolean;
  watched: boolean;
  readIndex: number;
  /** A fault plan shows another Read_Index than the real one. */
  concealed?: { shown: number; real: number };
  /** What the last load has read. */
  loaded: Record<string, number>;
}

export interface LiveOperation {
  /** 16 dwords. */
  descriptor: number[];
  slotAddress: number;
  /** The next context of its range. */
  next: number;
  /** The first target that could not be worked on. */
  failure?: { step: number; subStep: number; context: number };
  /** The virtual function that it acts on; 0: the function itself. */
  virtual: number;
}

export interface LiveCompletion {
  pasid: number;
  address: number;
  error: boolean;
}

export interface LiveCopies {
  level2: number;
  functionPasid: number;
  /** Table, owner, index, and the dwords of the entry. */
  entries: number[][];
}
