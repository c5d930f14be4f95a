import type { Context, DmaBuffer, SdxiDriver } from '../driver/index.js';

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

/** A lane over a context of its own. */
export class ContextLane implements Lane {
  readonly context: Context;
  private readonly driver: SdxiDriver;
  private readonly buffers: DmaBuffer[] = [];

  private constructor(driver: SdxiDriver, context: Context) {
    this.driver = driver;
    this.context = context;
  }

  /** @param options `polled`: completion is looked for, no interrupt is asked for */
  static async open(driver: SdxiDriver, { polled = false } = {}): Promise<ContextLane> {
    const context = await driver.createContext(polled ? { completion: 'polled' } : {});
    return new ContextLane(driver, context);
  }

  get name(): string {
    return this.context.name;
  }

  allocate(byteLength: number): LaneBuffer {
    const buffer = this.driver.allocate(byteLength, 4096);
    this.buffers.push(buffer);
    return buffer;
  }

  async copy(source: number, destination: number, length: number, options: LaneCopyOptions): Promise<void> {
    const batch = this.context.begin(1, { bytes: length });
    try {
      batch.copy(length, source, destination);
    } catch (error) {
      batch.abandon();
      throw error;
    }
    await this.context.limit(batch.submit(), options);
  }

  /** Contexts restart by themselves after an error; this waits for it, and for what a timeout has left behind. */
  async recover(): Promise<void> {
    await this.context.recover();
    await this.context.idle();
  }

  async close(): Promise<void> {
    await this.context.close();
    for (const buffer of this.buffers.splice(0)) buffer.free();
  }
}

/** So many lanes, spread evenly over the functions. */
export async function openLanes(drivers: readonly SdxiDriver[], count: number, options: { polled?: boolean } = {}): Promise<ContextLane[]> {
  const lanes: ContextLane[] = [];
  try {
    for (let i = 0; i < count; i++) lanes.push(await ContextLane.open(drivers[i % drivers.length], options));
    return lanes;
  } catch (error) {
    await closeAll(lanes);
    throw error;
  }
}

/** Closes everything, whatever fails; the first failure is thrown afterwards. */
export async function closeAll(things: readonly { close(): Promise<void> }[]): Promise<void> {
  const results = await Promise.allSettled(things.map((thing) => thing.close()));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
