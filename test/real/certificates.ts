/** Certificates for tests, made by the `openssl` command in a folder of the test's own. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Pair {
  cert: string;
  key: string;
}

export interface Certificates {
  /** The authority's certificate. Paths, all of them. */
  ca: string;
  /** Another authority, which has signed nothing here. */
  wrongCa: string;
  /** For `localhost`, 127.0.0.1 and ::1. */
  server: Pair;
  /** Signed by the authority, valid from 2020-01-01 to 2020-01-02. */
  expiredServer: Pair;
  /** For `elsewhere.example` only. */
  otherServer: Pair;
  /** A client's, its common name given. */
  client(commonName: string): Pair;
  /** The same, valid from 2020-01-01 to 2020-01-02. */
  expiredClient(commonName: string): Pair;
  /** The same, signed by the other authority. */
  foreignClient(commonName: string): Pair;
}

const REGISTER = `[ca]
default_ca = register
[register]
database = register.txt
new_certs_dir = .
policy = any
rand_serial = yes
[any]
commonName = supplied
`;

export function makeCertificates(dir: string): Certificates {
  const path = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = (name: string) => {
    openssl('req', '-x509', ...newKey, '-days', '30', '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.crt`);
    return path(`${name}.crt`);
  };
  const request = (file: string, commonName: string, extensions: string): Pair => {
    writeFileSync(path(`${file}.ext`), extensions);
    openssl('req', ...newKey, '-subj', `/CN=${commonName}`, '-keyout', `${file}.key`, '-out', `${file}.csr`);
    return { cert: path(`${file}.crt`), key: path(`${file}.key`) };
  };
  const issue = (file: string, commonName: string, extensions: string, by = 'ca'): Pair => {
    const pair = request(file, commonName, extensions);
    const signer = ['-CA', `${by}.crt`, '-CAkey', `${by}.key`, '-CAcreateserial'];
    openssl('x509', '-req', '-in', `${file}.csr`, ...signer, '-extfile', `${file}.ext`, '-days', '30', '-out', `${file}.crt`);
    return pair;
  };
  // `openssl x509` before 3.4 cannot set a time in the past; `openssl ca` always could, and wants a register for it.
  const issueExpired = (file: string, commonName: string, extensions: string): Pair => {
    const pair = request(file, commonName, extensions);
    writeFileSync(path('register.txt'), '');
    writeFileSync(path('register.cnf'), REGISTER);
    const signer = ['-cert', 'ca.crt', '-keyfile', 'ca.key', '-md', 'sha256'];
    const validity = ['-startdate', '200101000000Z', '-enddate', '200102000000Z'];
    openssl(
      'ca',
      '-batch',
      '-config',
      'register.cnf',
      ...signer,
      ...validity,
      '-extfile',
      `${file}.ext`,
      '-in',
      `${file}.csr`,
      '-out',
      `${file}.crt`,
    );
    return pair;
  };
  const local = 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nextendedKeyUsage=serverAuth\n';
  const forClients = 'extendedKeyUsage=clientAuth\n';
  const ca = authority('ca');
  const wrongCa = authority('wrong-ca');
  return {
    ca,
    wrongCa,
    server: issue('server', 'localhost', local),
    get expiredServer() {
      return issueExpired('expired', 'localhost', local);
    },
    get otherServer() {
      return issue('other', 'elsewhere.example', 'subjectAltName=DNS:elsewhere.example\n');
    },
    client: (commonName) => issue(`client-${commonName}`, commonName, forClients),
    expiredClient: (commonName) => issueExpired(`expired-${commonName}`, commonName, forClients),
    foreignClient: (commonName) => issue(`foreign-${commonName}`, commonName, forClients, 'wrong-ca'),
  };
}
