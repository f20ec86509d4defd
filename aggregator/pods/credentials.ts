/** How we prove who we are to Prometheus. Files are read anew, so that a renewed password, token or certificate needs no restart. */
import type { ConnectionOptions } from 'node:tls';
import { withoutPassword } from '../../common/address.ts';
import { type Loaded, readSetting, secretOf } from '../../common/config.ts';
import { NdtError } from '../../common/errors.ts';
import { readPemFiles } from '../../common/tls.ts';

const SECTION = 'pods.prometheus';

/** The address, without a slash at its end. @throws NdtError CONFIG where address and login do not go together */
export function checkedUrl({ config }: Pick<Loaded, 'config'>): string {
  const { url, username, password, password_file, token_file, tls } = config.pods.prometheus;
  const wrong = (text: string) => new NdtError('CONFIG', `${SECTION}.${text}`);
  if (!URL.canParse(url)) throw wrong(`url: "${withoutPassword(url)}" is not an address: expected http://host:port`);
  const parsed = new URL(url);
  if (parsed.username !== '' || parsed.password !== '')
    throw wrong('url: a login does not belong into the address: set username and password_file beside it');
  if (parsed.search !== '' || parsed.hash !== '') throw wrong('url: expected an address without ? and #, the query is added here');
  if (tls !== undefined && parsed.protocol !== 'https:') throw wrong('tls is set, but url is not https://: set one or the other right');
  if (username === undefined && (password !== undefined || password_file !== undefined))
    throw wrong('password stands alone: set username beside it');
  if (username !== undefined && password === undefined && password_file === undefined)
    throw wrong('username has no password: set password_file beside it');
  if (username?.includes(':') === true) throw wrong('username: a colon cannot be part of it (RFC 7617)');
  if (username !== undefined && token_file !== undefined) throw wrong('token_file and username are two logins: remove one');
  return parsed.href.replace(/\/+$/, '');
}

/** The header of the login, or undefined. @throws NdtError CONFIG where a file cannot be read, or holds nothing of use */
export function authorization(loaded: Pick<Loaded, 'config' | 'dir'>): string | undefined {
  const { username, password, password_file, token_file } = loaded.config.pods.prometheus;
  if (token_file !== undefined) {
    const token = readSetting(loaded, token_file, `${SECTION}.token_file`).trim();
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new NdtError('CONFIG', `${SECTION}.token_file: ${token_file} holds no token: expected one line without blanks`);
    }
    return `Bearer ${token}`;
  }
  if (username === undefined) return undefined;
  const secret = secretOf(loaded, password, password_file, `${SECTION}.password_file`) ?? '';
  return `Basic ${Buffer.from(`${username}:${secret}`, 'utf8').toString('base64')}`;
}

/** @throws NdtError CONFIG where a file cannot be used */
export function tlsOptions(loaded: Pick<Loaded, 'config' | 'dir'>): ConnectionOptions {
  const { tls } = loaded.config.pods.prometheus;
  if (tls === undefined) return {};
  return {
    ...readPemFiles(loaded, tls, `${SECTION}.tls`),
    ...(tls.server_name === undefined ? {} : { servername: tls.server_name }),
  };
}
