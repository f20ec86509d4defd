/** The PEM files that the configuration names, read and looked at, so that a wrong one is known by its name. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { type Loaded, pathOf, readSetting } from './config.ts';
import { messageOf, NdtError } from './errors.ts';

export interface PemFiles {
  ca?: string;
  cert?: string;
  key?: string;
}

/**
 * @param option the configuration's section, for messages: `mqtt.tls`
 * @throws NdtError CONFIG where a file cannot be read, is not what it should be, or certificate and key do not belong together
 */
export function readPemFiles(
  loaded: Pick<Loaded, 'dir'>,
  files: { ca_file?: string | undefined; cert_file?: string | undefined; key_file?: string | undefined },
  option: string,
): PemFiles {
  const pem: PemFiles = {};
  const wrong = (name: string, file: string, what: string, cause?: unknown) =>
    new NdtError('CONFIG', `${option}.${name}: ${pathOf(loaded, file)} ${what}`, { cause });
  if (files.ca_file !== undefined) {
    pem.ca = readSetting(loaded, files.ca_file, `${option}.ca_file`);
    if (certificateIn(pem.ca) === undefined)
      throw wrong('ca_file', files.ca_file, 'holds no certificate: expected a PEM file of the authorities’ certificates');
  }
  if ((files.cert_file === undefined) !== (files.key_file === undefined)) {
    const [there, missing] = files.cert_file === undefined ? ['key_file', 'cert_file'] : ['cert_file', 'key_file'];
    throw new NdtError('CONFIG', `${option}.${there} stands alone: set ${option}.${missing} beside it`);
  }
  if (files.cert_file === undefined || files.key_file === undefined) return pem;
  pem.cert = readSetting(loaded, files.cert_file, `${option}.cert_file`);
  pem.key = readSetting(loaded, files.key_file, `${option}.key_file`);
  const certificate = certificateIn(pem.cert);
  if (certificate === undefined) throw wrong('cert_file', files.cert_file, 'holds no certificate: expected a PEM file');
  let belongs: boolean;
  try {
    belongs = certificate.checkPrivateKey(createPrivateKey(pem.key));
  } catch (error) {
    throw wrong(
      'key_file',
      files.key_file,
      `holds no usable private key (${messageOf(error)}): expected a PEM file without a passphrase`,
      error,
    );
  }
  if (!belongs)
    throw wrong(
      'key_file',
      files.key_file,
      `is not the key of the certificate in ${pathOf(loaded, files.cert_file)}: give the pair that belongs together`,
    );
  return pem;
}

/** The first certificate of a PEM text. */
function certificateIn(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
