import { openBus } from '../bus/index.js';
import { SdxiDriver } from '../driver/index.js';
import { closeAll } from './lane.js';

/** Functions that were opened together: several of one URI run on a thread each. */
export class Functions {
  readonly drivers: readonly SdxiDriver[];

  private constructor(drivers: readonly SdxiDriver[]) {
    this.drivers = drivers;
  }

  /** @throws SdxiError ERR_SDXI_URI and others; what was opened before is closed again */
  static async open(uri: string, count = 1): Promise<Functions> {
    const drivers: SdxiDriver[] = [];
    try {
      for (let i = 0; i < count; i++) {
        const bus = await openBus(uri);
        drivers.push(await SdxiDriver.open(bus));
      }
      return new Functions(drivers);
    } catch (error) {
      await closeAll(drivers);
      throw error;
    }
  }

  close(): Promise<void> {
    return closeAll(this.drivers);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
