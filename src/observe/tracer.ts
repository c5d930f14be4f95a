/**
 * What happens inside a function, as plain data. Each method is called at the moment of the thing itself, in the order of
 * S-74, and must not throw or block. A tracer gets numbers and bigints only, nothing it could change.
 */
export interface Tracer {
  registerRead(offset: number, size: number, value: bigint): void;
  registerWrite(offset: number, size: number, value: bigint): void;
  doorbell(context: number, value: number): void;
  functionState(state: number): void;
  contextState(context: number, state: number): void;
  /** A descriptor was taken: its index and its 64 bytes (valid during the call only). */
  descriptor(context: number, index: number, bytes: Uint8Array): void;
  /** A descriptor was finished; `error` as in CST_BLK.er. */
  completion(context: number, index: number, error: boolean): void;
  interrupt(vector: number): void;
  /** A record was offered to the error log, whether or not the log took it. */
  errorRecord(record: Uint8Array): void;
}
