/** How long a function waits for its client, and how much it says and keeps. */
export interface ServeLimits {
  /** ms that one step of the function may wait for answers to DMA_READ and DMA_WRITE, all of them together. Default 5000. */
  readonly dmaMs: number;
  /**
   * And while the client waits for an answer itself, which only comes after that step: some clients answer nothing meanwhile. Also in a
   * group, whose other functions may have to wait for the end of the step. Default 250.
   */
  readonly dmaBlockedMs: number;
  /** Lines of the log in a second; what is beyond is counted. Default 20. */
  readonly logLines: number;
}

export const SERVE_LIMITS: ServeLimits = { dmaMs: 5000, dmaBlockedMs: 250, logLines: 20 };

/** Addresses that all functions of a process map together: a quarter of what it has, so that there are some left for everything else. */
const PROCESS_BYTES = 2 ** 45;
/** And one of them: every 2 GiB are a view, which takes time to make. */
const BYTES_MAX = 2 ** 40;
/** Mappings of all functions together: half of vm.max_map_count. */
const PROCESS_MAPPINGS = 32_768;
/** Mappings of one function: one for each file, and one for each map without a file. */
const MAPPINGS_MAX = 8192;

/**
 * What a function may map into the process. Its client decides how much that is, and a process without addresses or mappings left ends,
 * with all its functions.
 */
export class Room {
  private bytes: number;
  private mappings: number;

  /** @param functions that share the process */
  constructor(functions: number) {
    this.bytes = Math.min(Math.floor(PROCESS_BYTES / functions), BYTES_MAX);
    this.mappings = Math.min(Math.floor(PROCESS_MAPPINGS / functions), MAPPINGS_MAX);
  }

  /** @returns false when there is no room for another mapping of so many bytes */
  take(byteLength: number): boolean {
    if (byteLength > this.bytes || this.mappings === 0) return false;
    this.bytes -= byteLength;
    this.mappings--;
    return true;
  }

  give(byteLength: number): void {
    this.bytes += byteLength;
    this.mappings++;
  }
}
