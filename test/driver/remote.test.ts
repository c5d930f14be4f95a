/** Consent to other functions of a group, as a driver gives and takes it: ref §4.8, §7.1, S-48. */
import { describe, expect, it } from 'vitest';
import { openBus } from '../../src/bus/index.js';
import { type DriverOptions, SdxiDriver } from '../../src/driver/index.js';
import { decodeRegister, MMIO_RKEY, Reg } from '../../src/spec/index.js';

const open = async (uri = '', options: DriverOptions = {}) => SdxiDriver.open(await openBus(`embedded:?inline=1${uri}`), options);
const rkey = (driver: SdxiDriver) => decodeRegister(MMIO_RKEY, driver.bus.readRegister(Reg.RKEY));

describe('driver.grant', () => {
  it('RKEY is written with the first grant, and again after a recovery', async () => {
    await using driver = await open('', { rkeys: 300 });
    expect(rkey(driver).en).toBe(0);
    expect([driver.grant({ to: 2 }), driver.grant({ to: 3, pasid: 5 })]).toEqual([0, 1]);
    const programmed = rkey(driver);
    expect(programmed).toMatchObject({ en: 1, sz: 1 });
    await driver.stop();
    await driver.recover();
    expect(rkey(driver)).toEqual(programmed);
    await driver.revoke(0);
    expect(driver.grant({ to: 9, vector: 1 })).toBe(0);
  });

  it('what cannot be granted or revoked is refused with the reason', async () => {
    await using driver = await open('', { rkeys: 256 });
    await expect(driver.revoke(0)).rejects.toMatchObject({ hint: 'nothing was granted' });
    for (let n = 0; n < 256; n++) driver.grant({ to: 2 });
    expect(() => driver.grant({ to: 2 })).toThrow('all 256 remote keys are in use');
    await expect(driver.revoke(256)).rejects.toThrow('there is no remote key 256');
    await driver.revoke(7);
    await expect(driver.revoke(7)).rejects.toThrow('remote key 7 cannot be freed');
    expect(() => driver.grant({ to: 0x1_0000 })).toThrow(/req_sfunc/);
    await using without = await open('&rkeyCap=0');
    expect(() => without.grant({ to: 2 })).toThrow(expect.objectContaining({ code: 'ERR_SDXI_UNSUPPORTED' }));
    await using few = await open('&maxRkey=0', { rkeys: 1000 });
    expect(() => few.grant({ to: 2 })).toThrow('rkeys cannot be 1000');
  });
});
