import { onTestFinished } from 'vitest';
import { embeddedSettings } from '../src/bus/embedded/options.js';
import { startServer } from './serve/rig.js';

/** The suites run over vfio-user, instead of in one process (`npm run test:served`). */
export const SERVED = process.env.SDXI_TEST_BUS === 'vfio-user';

/** Serves functions over vfio-user that have the options of an embedded one, until the test ends. @returns their URIs */
export async function served(options = '', functions = 1): Promise<string[]> {
  const { config, vectors } = embeddedSettings(`embedded:?${options}`);
  const faults = new URLSearchParams(options).get('faults') ?? '';
  const rig = await startServer({ functions, config, vectors, faults });
  onTestFinished(() => rig.close());
  return rig.server.sockets.map((socket) => `vfio-user:${socket}`);
}
