// Nothing is needed for the package.
export default { reactStrictMode: true };
