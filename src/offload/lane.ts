/** Memory that a lane's function may access; it goes with the lane. */
export interface LaneBuffer {
  readonly bytes: Buffer;
  readonly iova: number;
}

export interface LaneCopyOptions {
  timeoutMs: number;
  signal?: AbortSignal;
}

/** One context of one function that copies, one transfer at a time: what dmatest calls a channel. */
export interface Lane {
  /** Name of the context: `sdxi0/cxt1`. */
  readonly name: string;
  allocate(byteLength: number): LaneBuffer;
  /** Copies between two places in buffers of this lane. @throws SdxiError, whatever the context reports */
  copy(source: number, destination: number, length: number, options: LaneCopyOptions): Promise<void>;
  /** Makes the lane usable again after a transfer that failed or never came back. */
  recover(): Promise<void>;
  /** Stops the context, then frees its buffers. */
  close(): Promise<void>;
}
