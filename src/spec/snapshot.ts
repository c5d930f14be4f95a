/**
 * What a stopped function is, besides the memory it works on: its registers. Contexts, rings and indexes lie in memory, which
 * travels beside the snapshot. Ref §10.
 */
export interface FunctionSnapshot {
  format: 'sdxi-function';
  version: typeof SNAPSHOT_VERSION;
  /** CAP0, CAP1 and VERSION: whoever takes over must report the same, for software has read them. */
  capabilities: Record<string, string>;
  /** Everything that software or the function can have changed; 64-bit values in hexadecimal. */
  registers: Record<string, string>;
  /** SHA-256 of all of the above, in hexadecimal. */
  checksum: string;
}

export const SNAPSHOT_VERSION = 1;
