import { SdxiError } from '../../errors.js';
import type { Connection } from '../../vfio-user/connection.js';
import {
  Command,
  FEATURE_BYTES,
  Feature,
  FeatureFlag,
  field64,
  MAX_BITMAP,
  MIG_DATA_BYTES,
  MIGRATION_STOP_COPY,
  MigrationState,
} from '../../vfio-user/messages.js';
import type { ServedDevice } from './device.js';

/** States of a function that are larger are no SDXI function's. */
const STATE_MAX = 64 << 20;

/** A range of DMA addresses. */
export interface DirtyRange {
  readonly iova: number;
  readonly byteLength: number;
}

/** Moves a served function from one server to another: its state as the server saves it, and the pages that it writes meanwhile. */
export class MigrationClient {
  private readonly device: ServedDevice;
  private readonly hold: <T>(action: () => T) => T;

  constructor(device: ServedDevice, hold: <T>(action: () => T) => T) {
    this.device = device;
    this.hold = hold;
  }

  /** Whether the server can save and load the function. */
  supported(): boolean {
    return this.hold(() => {
      const { link, slowMs } = this.device;
      if (link.request(Command.DEVICE_FEATURE, FEATURE_BYTES, head(Feature.MIGRATION, FeatureFlag.GET, FEATURE_BYTES + 8), slowMs) !== 0)
        return false;
      const { body, view } = link.connection;
      return body.length >= FEATURE_BYTES + 8 && (view.getUint32(FEATURE_BYTES, true) & MIGRATION_STOP_COPY) !== 0;
    });
  }

  /** Where the function is: RUNNING unless somebody moves it. */
  get state(): MigrationState {
    return this.hold(() => {
      this.device.demand(Command.DEVICE_FEATURE, FEATURE_BYTES, head(Feature.MIG_DEVICE_STATE, FeatureFlag.GET, FEATURE_BYTES + 8));
      const { body, view } = this.device.link.connection;
      if (body.length < FEATURE_BYTES + 8) throw this.garbage('a migration state');
      return view.getUint32(FEATURE_BYTES, true) as MigrationState;
    });
  }

  /** @throws SdxiError ERR_SDXI_SYSTEM when the server does not go there */
  setState(state: MigrationState): void {
    this.hold(() =>
      this.device.demand(Command.DEVICE_FEATURE, FEATURE_BYTES + 8, (connection) => {
        head(Feature.MIG_DEVICE_STATE, FeatureFlag.SET, FEATURE_BYTES + 8)(connection);
        connection.out.u32(FEATURE_BYTES, state);
        connection.out.u32(FEATURE_BYTES + 4, 0);
      }),
    );
  }

  /** Stops the function and reads its state. It stays stopped: `setState(RUNNING)` lets it go on. */
  saveState(): Uint8Array {
    this.setState(MigrationState.STOP_COPY);
    const pieces: Uint8Array[] = [];
    const ask = this.device.maxTransfer;
    for (let total = 0; ; ) {
      const piece = this.readPiece(ask);
      pieces.push(piece);
      total += piece.length;
      if (piece.length < ask) return Buffer.concat(pieces);
      if (total > STATE_MAX)
        throw new SdxiError('ERR_SDXI_SYSTEM', `the server's state has more than ${STATE_MAX} bytes`, { hint: 'is it an SDXI function?' });
    }
  }

  private readPiece(size: number): Uint8Array {
    return this.hold(() => {
      this.device.demand(Command.MIG_DATA_READ, MIG_DATA_BYTES, ({ out }) => {
        out.u32(0, MIG_DATA_BYTES + size);
        out.u32(4, size);
      });
      const { body, view } = this.device.link.connection;
      const got = body.length < MIG_DATA_BYTES ? -1 : view.getUint32(4, true);
      if (got < 0 || got > size || body.length !== MIG_DATA_BYTES + got) throw this.garbage('MIG_DATA_READ');
      return body.slice(MIG_DATA_BYTES);
    });
  }

  /** Makes the function the one of a state, and lets it run. @throws SdxiError ERR_SDXI_SYSTEM when the server refuses it */
  loadState(bytes: Uint8Array): void {
    this.setState(MigrationState.RESUMING);
    const most = this.device.maxTransfer;
    for (let at = 0; at < bytes.length; at += most) {
      const piece = bytes.subarray(at, at + most);
      this.hold(() =>
        this.device.demand(Command.MIG_DATA_WRITE, MIG_DATA_BYTES + piece.length, ({ out }) => {
          out.u32(0, MIG_DATA_BYTES + piece.length);
          out.u32(4, piece.length);
          out.bytes(MIG_DATA_BYTES, piece);
        }),
      );
    }
    this.setState(MigrationState.RUNNING);
  }

  /**
   * From now on pages that the function writes are noted down.
   * @param ranges none: everywhere
   * @returns bytes of a page, as the server notes them
   */
  startDirtyLog(pageBytes = 4096, ranges: readonly DirtyRange[] = []): number {
    return this.hold(() => {
      const bytes = FEATURE_BYTES + 16 + 16 * ranges.length;
      this.device.demand(Command.DEVICE_FEATURE, bytes, (connection) => {
        const { out } = connection;
        head(Feature.DMA_LOGGING_START, FeatureFlag.SET, bytes)(connection);
        out.u64(FEATURE_BYTES, pageBytes);
        out.u32(FEATURE_BYTES + 8, ranges.length);
        out.u32(FEATURE_BYTES + 12, 0);
        for (const [i, { iova, byteLength }] of ranges.entries()) {
          out.u64(FEATURE_BYTES + 16 + 16 * i, iova);
          out.u64(FEATURE_BYTES + 24 + 16 * i, byteLength);
        }
      });
      const { body, view } = this.device.link.connection;
      if (body.length < FEATURE_BYTES + 8) throw this.garbage('DMA_LOGGING_START');
      const noted = field64(view, FEATURE_BYTES);
      if (noted < 1 || !Number.isInteger(Math.log2(noted))) throw this.garbage(`DMA_LOGGING_START with pages of ${noted} bytes`);
      return noted;
    });
  }

  stopDirtyLog(): void {
    this.hold(() =>
      this.device.demand(Command.DEVICE_FEATURE, FEATURE_BYTES, head(Feature.DMA_LOGGING_STOP, FeatureFlag.SET, FEATURE_BYTES)),
    );
  }

  /** DMA addresses of the pages in a range that the function has written since the last report. */
  dirtyPages({ iova, byteLength }: DirtyRange, pageBytes = 4096): number[] {
    const pages: number[] = [];
    const most = (MAX_BITMAP / 2) * 8 * pageBytes;
    for (let done = 0; done < byteLength; done += most) this.report(iova + done, Math.min(most, byteLength - done), pageBytes, pages);
    return pages;
  }

  private report(iova: number, byteLength: number, pageBytes: number, pages: number[]): void {
    const head24 = FEATURE_BYTES + 24;
    const count = Math.ceil(byteLength / pageBytes);
    const bitmapBytes = Math.ceil(count / 64) * 8;
    this.hold(() => {
      this.device.demand(Command.DEVICE_FEATURE, head24, (connection) => {
        const { out } = connection;
        head(Feature.DMA_LOGGING_REPORT, FeatureFlag.GET, head24 + bitmapBytes)(connection);
        out.u64(FEATURE_BYTES, iova);
        out.u64(FEATURE_BYTES + 8, byteLength);
        out.u64(FEATURE_BYTES + 16, pageBytes);
      });
      const { body } = this.device.link.connection;
      if (body.length !== head24 + bitmapBytes) throw this.garbage('DMA_LOGGING_REPORT');
      for (let page = 0; page < count; page++) {
        if ((body[head24 + (page >>> 3)] >>> (page & 7)) & 1) pages.push(iova + page * pageBytes);
      }
    });
  }

  private garbage(what: string): Error {
    return this.device.link.abandon(`its answer makes no sense: ${what}`);
  }
}

const head =
  (feature: number, method: number, argsz: number) =>
  ({ out }: Connection): void => {
    out.u32(0, argsz);
    out.u32(4, feature | method);
  };
