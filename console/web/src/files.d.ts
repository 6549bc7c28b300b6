// Files that the build takes along: importing one gives its address, or nothing.
declare module "*.geojson" {
  const address: string;
  export default address;
}
declare module "*.css";
